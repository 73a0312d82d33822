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

ACTIONS: dict[str, tuple[str, ...]] = {
    # what people do anywhere
    "wave": _EVERYWHERE, "clap": _EVERYWHERE, "point": _EVERYWHERE, "salute": _EVERYWHERE, "nod_bow": _EVERYWHERE,
    "palms_together": _EVERYWHERE, "cross_hands": _EVERYWHERE, "drink": _EVERYWHERE, "drink_water": _EVERYWHERE,
    "eat": _EVERYWHERE, "pick_up": _EVERYWHERE, "make_phone_call": _EVERYWHERE, "use_phone": _EVERYWHERE,
    "take_photo": _EVERYWHERE, "walk": _EVERYWHERE, "stand_up": _EVERYWHERE, "sit_down": _EVERYWHERE,
    "enter": _EVERYWHERE, "leave": _EVERYWHERE, "get_up": _EVERYWHERE, "put_on_glasses": _EVERYWHERE,
    "take_off_glasses": _EVERYWHERE, "stretch": _EVERYWHERE, "sneeze": _EVERYWHERE, "hug": _EVERYWHERE,
    # indoors only
    "read": (*_INDOORS, "park", "garden", "beach"), "read_book": (*_INDOORS, "park", "garden", "beach"),
    "use_tablet": _INDOORS, "use_laptop": _INDOORS, "type": _INDOORS, "write": _INDOORS, "watch_tv": ("home",),
    "lay_down": ("home", "hospital", "park", "beach"), "sleep": ("home", "hospital"),
    "tear_paper": _INDOORS, "put_on_jacket": _EVERYWHERE, "take_off_jacket": _EVERYWHERE,
    # where there is a sink, a stove or a mirror
    "brush_teeth": ("bathroom",), "brush_hair": ("bathroom", "bedroom", "hallway"), "wash_face": ("bathroom",),
    "wash_hands": ("bathroom", "kitchen"), "wash_dishes": ("kitchen",), "cook": ("kitchen",), "cut": ("kitchen",),
    "cut_bread": ("kitchen", "dining_room"), "stir": ("kitchen",), "make_coffee": ("kitchen", "office", "cafe"),
    "make_tea": ("kitchen", "office", "cafe"), "pour": ("kitchen", "dining_room", "restaurant", "cafe", "office"),
    "use_stove": ("kitchen",), "clean_table": ("kitchen", "dining_room", "restaurant", "cafe"),
    "clean_dishes": ("kitchen",), "dump_trash": ("kitchen", "office", "street"), "sweep": (*_INDOORS, "yard", "street"),
    # room to move
    "throw": ("outdoors", "gym"), "kick": ("outdoors", "gym"), "jump": _EVERYWHERE, "jump_up": _EVERYWHERE,
    "run": ("outdoors", "gym"), "play_ball": ("outdoors", "gym"), "basketball": ("outdoors", "gym"),
    "soccer": ("outdoors", "gym"), "golf": ("outdoors",), "squat": (*_EVERYWHERE,), "dance": _EVERYWHERE,
    "hop": _EVERYWHERE, "juggle": ("outdoors", "gym", "stage"), "direct_traffic": ("street",),
    "hail_taxi": ("street",),
}  # fmt: skip
"""Everyday actions and the kinds or tags of places where they are done."""


def why_unfit(action: str, tags: tuple[str, ...]) -> str | None:
    """Why nobody does `action` in a place with these tags; None where they do, or where nothing is known."""
    name = _plain(action)
    allowed = ACTIONS.get(name) or next((v for k, v in ACTIONS.items() if name.startswith(f"{k}_")), None)
    known = {tag for tag in map(_plain, tags) if tag in PLACES or any(tag in members for members in PLACES.values())}
    if allowed is None or not known:
        return None
    if any(_fits(tag, allowed) for tag in known):
        return None
    return f"{action} is done in {', '.join(allowed)}, not in {', '.join(sorted(known))}"


def _fits(tag: str, allowed: tuple[str, ...]) -> bool:
    """A tag fits when it is named, when its kind is, or when it is a kind that holds a named one."""
    kinds = {kind for kind, members in PLACES.items() if tag in members or tag == kind}
    return tag in allowed or bool(kinds & set(allowed)) or any(a in PLACES.get(tag, ()) for a in allowed)


def _plain(word: str) -> str:
    """ "Brush teeth", "brush-teeth" and "brushing teeth" as the table writes them."""
    words = [re.sub(r"ing$", "", part) for part in re.split(r"[\W_]+", word.lower()) if part]
    return "_".join(words) if "_".join(words) in ACTIONS else re.sub(r"[\W_]+", "_", word.lower()).strip("_")
