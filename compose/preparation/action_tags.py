"""Action + tags of a place -> whether the one is done in the other: a table that needs no model.

Tags come from whoever gathered the places. An action without an entry, and a place without tags, fit everywhere: the
table only refuses what it knows.
"""

from __future__ import annotations

import re

PLACES: dict[str, frozenset[str]] = {
    "home": frozenset({"kitchen", "living_room", "bedroom", "bathroom", "dining_room", "hallway", "room", "home"}),
    "work": frozenset({"office", "meeting_room", "classroom", "laboratory", "lab", "workshop", "library"}),
    "public": frozenset({"shop", "restaurant", "cafe", "hospital", "station", "lobby", "corridor", "gym", "stage"}),
    "outdoors": frozenset({"street", "park", "garden", "square", "yard", "beach", "playground", "sports_field"}),
}
"""Kinds of places and the tags that belong to them; a kind is itself a tag."""

_INDOORS = ("home", "work", "public")
_EVERYWHERE = (*_INDOORS, "outdoors")
_SEATED = (*_INDOORS, "park", "garden", "beach")
_ROOMY = ("outdoors", "gym")
_DRINKS = ("kitchen", "dining_room", "living_room", "restaurant", "cafe", "office")

_NTU: dict[tuple[str, ...], str] = {
    _EVERYWHERE: """drink water, eat meal/snack, drop, pickup, sitting down, standing up, clapping, wear jacket,
        take off jacket, wear on glasses, take off glasses, put on a hat/cap, take off a hat/cap, cheer up, hand waving,
        kicking something, reach into pocket, hopping, jump up, make a phone call, playing with phone/tablet,
        pointing to something, taking a selfie, check time, rub two hands together, nod head/bow, shake head, wipe face,
        salute, put the palms together, cross hands in front, sneeze/cough, staggering, falling down, headache,
        chest pain, back pain, neck pain, nausea/vomiting, fan self, punch/slap, kicking, pushing, pat on back,
        point finger, hugging, giving object, touch pocket, shaking hands, walking towards, walking apart,
        put on headphone, take off headphone, hush, flick hair, thumb up, thumb down, make OK sign, make victory sign,
        counting money, snap fingers, open bottle, sniff/smell, squat down, toss a coin, play magic cube,
        apply cream on hand, put on bag, take off bag, put object into bag, take object out of bag, open a box,
        move heavy objects, shake fist, throw up cap/hat, capitulate, cross arms, arm circles, arm swings,
        run on the spot, butt kicks, cross toe touch, side kick, yawn, stretch oneself, blow nose, hit with object,
        wield knife, knock over, grab stuff, shoot with gun, step on foot, high-five, cheers and drink, carry object,
        take a photo, follow, whisper, exchange things, support somebody, rock-paper-scissors""",
    _SEATED: "reading, writing, wear a shoe, take off a shoe",
    _INDOORS: "tear up paper, typing on a keyboard, staple book, cutting paper, fold paper, ball up paper",
    ("bathroom",): "brushing teeth",
    ("bathroom", "bedroom", "hallway"): "brushing hair, apply cream on face",
    ("home",): "cutting nails",
    _ROOMY: "throw, shoot at basket, bounce ball, tennis bat swing",
    (*_ROOMY, "home", "office"): "juggle table tennis ball",
}  # fmt: skip
"""The 120 actions of NTU RGB+D 120 (Liu et al. 2020), as the data set's page names them."""

_SMARTHOME: dict[tuple[str, ...], str] = {
    ("kitchen",): "Cook.Cleandishes, Cook.Cleanup, Cook.Cut, Cook.Stir, Cook.Usestove, Maketea.Boilwater",
    ("kitchen", "dining_room"): "Cutbread",
    ("kitchen", "office", "cafe"): "Makecoffee.Pourgrains, Makecoffee.Pourwater, Maketea.Insertteabag",
    _DRINKS: "Pour.Frombottle, Pour.Fromcan, Pour.Fromkettle",
    (*_DRINKS, "outdoors"): "Eat.Attable",
    _EVERYWHERE: """Drink.Frombottle, Drink.Fromcan, Drink.Fromcup, Drink.Fromglass, Eat.Snack, Enter, Getup, Leave,
        Sitdown, Takepills, Usetelephone, Walk""",
    _SEATED: "Readbook",
    _INDOORS: "Uselaptop, Usetablet",
    ("home", "hospital", "park", "beach"): "Laydown",
    ("home",): "WatchTV",
}  # fmt: skip
"""The 31 activities of Toyota Smarthome (Das et al. 2019), as its files name them."""

_OTHERS: dict[tuple[str, ...], str] = {
    _EVERYWHERE: """wave, clap, point, nod_bow, palms_together, cross_hands, drink, eat, pick_up, use_phone, take_photo,
        stand_up, sit_down, get_up, put_on_glasses, stretch, sneeze, hug, put_on_jacket, kick, jump, squat, dance, hop,
        walk""",
    _SEATED: "read, read_book",
    _INDOORS: "use_tablet, use_laptop, type, write, tear_paper",
    ("home",): "watch_tv",
    ("home", "hospital"): "sleep",
    ("home", "hospital", "park", "beach"): "lay_down",
    ("bathroom",): "brush_teeth, wash_face",
    ("bathroom", "bedroom", "hallway"): "brush_hair",
    ("bathroom", "kitchen"): "wash_hands",
    ("kitchen",): "cook, cut, stir, use_stove, wash_dishes, clean_dishes",
    ("kitchen", "dining_room"): "cut_bread",
    ("kitchen", "office", "cafe"): "make_coffee, make_tea",
    _DRINKS: "pour",
    ("kitchen", "dining_room", "restaurant", "cafe"): "clean_table",
    ("kitchen", "office", "street"): "dump_trash",
    (*_INDOORS, "yard", "street"): "sweep",
    _ROOMY: "run, play_ball, basketball, soccer",
    ("outdoors",): "golf",
    (*_ROOMY, "stage"): "juggle",
    ("street",): "direct_traffic, directing_traffic, hail_taxi",
}  # fmt: skip
"""Everyday names of actions, those of the toolkit's own studio among them."""


def _plain(word: str) -> str:
    """ "Brush teeth", "brush-teeth" and "Brush.Teeth" as the table writes them."""
    return re.sub(r"[\W_]+", "_", word.lower()).strip("_")


ACTIONS: dict[str, tuple[str, ...]] = {
    _plain(name): places
    for table in (_OTHERS, _SMARTHOME, _NTU)
    for places, names in table.items()
    for name in names.split(",")
}
"""Actions and the kinds or tags of places where they are done."""


def why_unfit(action: str, tags: tuple[str, ...]) -> str | None:
    """Why nobody does `action` in a place with these tags; None where they do, or where nothing is known."""
    allowed = _places_of(_plain(action))
    known = {tag for tag in map(_plain, tags) if tag in PLACES or any(tag in members for members in PLACES.values())}
    if allowed is None or not known:
        return None
    if any(_fits(tag, allowed) for tag in known):
        return None
    return f"{action} is done in {', '.join(allowed)}, not in {', '.join(sorted(known))}"


def likeliest(shares: tuple[tuple[str, float], ...]) -> tuple[str, ...]:
    """The kinds of place that are at least half as probable as the most probable one."""
    most = max((share for _, share in shares), default=0.0)
    return tuple(tag for tag, share in shares if share >= 0.5 * most)


def likelihood(action: str, shares: tuple[tuple[str, float], ...]) -> float | None:
    """How likely `action` is done in a place that is each of these kinds with some probability; None where nothing is
    known of the action, or of the place."""
    allowed = _places_of(_plain(action))
    if allowed is None or not shares:
        return None
    return sum(share for tag, share in shares if _fits(_plain(tag), allowed))


def _places_of(name: str) -> tuple[str, ...] | None:
    """Where an action is done: by its name, without "ing", or by its first words; None where nothing is known."""
    stem = "_".join(re.sub(r"ing$", "", part) for part in name.split("_"))
    for found in (name, stem):
        if found in ACTIONS:
            return ACTIONS[found]
    starts = [known for known in ACTIONS if name.startswith(f"{known}_")]
    return ACTIONS[max(starts, key=len)] if starts else None


def _fits(tag: str, allowed: tuple[str, ...]) -> bool:
    """A tag fits when it is named, when its kind is, or when it is a kind that holds a named one."""
    kinds = {kind for kind, members in PLACES.items() if tag in members or tag == kind}
    return tag in allowed or bool(kinds & set(allowed)) or any(a in PLACES.get(tag, ()) for a in allowed)
