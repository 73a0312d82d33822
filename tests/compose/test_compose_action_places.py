"""Which actions are done in which places."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actionrec.sources.ntu import ACTION_NAMES
from actionrec.sources.smarthome import CROSS_VIEW_ACTIVITIES
from compose.preparation import action_tags as action_places
from compose.preparation.action_tags import ACTIONS, PLACES, why_unfit


@pytest.mark.parametrize(
    ("action", "tags", "fits"),
    [
        ("brush_teeth", ("bathroom",), True),
        ("brush_teeth", ("street",), False),
        ("Brush Teeth", ("office", "meeting_room"), False),
        ("cooking", ("kitchen",), True),
        ("cook", ("living_room",), False),
        ("cook", ("home",), True),
        ("throw", ("park",), True),
        ("throw", ("office",), False),
        ("wave", ("street",), True),
        ("an action nobody knows", ("street",), True),
        ("cook", (), True),
        ("Cook.Stir", ("office",), False),
        ("Makecoffee.Pourwater", ("kitchen",), True),
        ("brushing teeth", ("park",), False),
        ("shoot at basket", ("bedroom",), False),
        ("hand waving", ("bedroom",), True),
        ("kick_ball", ("office",), True),
        ("cook", ("sunny", "my favourite"), True),
    ],
)
def test_actions_are_done_where_they_are_done(action, tags, fits):
    assert (why_unfit(action, tags) is None) == fits


def test_a_refusal_says_why():
    assert why_unfit("cook", ("street",)) == "cook is done in kitchen, not in street"


def test_every_class_of_the_published_data_sets_has_its_places():
    ntu = [name for names in action_places._NTU.values() for name in names.split(",")]
    assert len(ntu) == len(set(map(action_places._plain, ntu))) == 120
    smarthome = [name for names in action_places._SMARTHOME.values() for name in names.split(",")]
    assert len(smarthome) == 31
    for names in (ACTION_NAMES.values(), CROSS_VIEW_ACTIVITIES):
        assert [name for name in names if action_places._plain(name) not in ACTIONS] == []
    for manifest in (Path(__file__).parents[2] / "data" / "manifests").glob("*.json"):
        for row in json.loads(manifest.read_text())["classes"]:
            assert action_places._plain(row["name"]) in ACTIONS, manifest.name


def test_the_table_names_only_places_that_it_knows():
    known = set(PLACES) | {tag for members in PLACES.values() for tag in members}
    assert {place for places in ACTIONS.values() for place in places} <= known
