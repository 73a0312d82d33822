"""Which actions are done in which places."""

from __future__ import annotations

import pytest

from compose.action_places import ACTIONS, PLACES, why_unfit


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
        ("cook", ("sunny", "my favourite"), True),
    ],
)
def test_actions_are_done_where_they_are_done(action, tags, fits):
    assert (why_unfit(action, tags) is None) == fits


def test_a_refusal_says_why():
    assert why_unfit("cook", ("street",)) == "cook is done in kitchen, not in street"


def test_the_table_names_only_places_that_it_knows():
    known = set(PLACES) | {tag for members in PLACES.values() for tag in members}
    assert {place for places in ACTIONS.values() for place in places} <= known
