"""What a worker claims and gives back, as a table."""

from roundsman.engine.shares import claims, left_to_others, sinks_to_claim, strays, surplus

ALONE = {n: [f"s{n}"] for n in range(10)}
FREE = {f"s{n}": None for n in range(10)}


def test_a_worker_alone_claims_everything_and_one_of_two_its_half() -> None:
    assert len(claims(ALONE, FREE, 1, 1)) == 10
    assert len(claims(ALONE, FREE, 1, 2)) == 5
    assert claims(ALONE, FREE | {f"s{n}": 1 for n in range(5)}, 1, 2) == []


def test_a_group_is_claimed_as_a_whole_and_its_rest_by_the_one_that_has_a_part_of_it() -> None:
    groups = {"a": ["a1", "a2", "a3"], "b": ["b1"]}
    assert claims(groups, dict.fromkeys(["a1", "a2", "a3", "b1"]), 1, 2) == ["a1", "a2", "a3"]
    holders = {"a1": 1, "a2": None, "a3": None, "b1": None}
    assert claims(groups, holders, 1, 2) == ["a2", "a3"]
    assert claims(groups, holders, 2, 2) == ["b1"]


def test_the_rest_of_a_group_waits_for_the_worker_that_has_a_part_of_it_also_if_its_configuration_differs() -> (
    None
):
    groups = {"a": ["a1", "a2", "a3"], "b": ["b1"]}
    holders = {"a1": 1, "a2": None, "a3": None, "b1": None}
    assert claims(groups, holders, 3, 1) == ["b1"], "two workers would ask one account"
    assert left_to_others(groups, holders, 3) == {"a2", "a3"}
    assert left_to_others(groups, holders, 1) == set()


def test_what_is_not_in_the_store_yet_is_not_claimed() -> None:
    assert claims(ALONE, {"s1": None}, 1, 1) == ["s1"]


def test_a_worker_gives_back_what_is_clearly_above_its_share_and_never_a_part_of_a_group() -> None:
    held = {f"s{n}" for n in range(10)}
    assert len(surplus(ALONE, held, 2)) == 5
    assert surplus(ALONE, held, 1) == []
    assert surplus(ALONE, {"s1", "s2", "s3", "s4", "s5", "s6"}, 2) == [], "one more is no reason"
    assert surplus({"all": [f"s{n}" for n in range(10)]}, held, 2) == [], "a group larger than a share stays"


def test_of_a_group_that_two_workers_hold_the_one_with_less_gives_its_part() -> None:
    groups = {"a": ["a1", "a2", "a3"], "b": ["b1", "b2"], "c": ["c1"]}
    holders = {"a1": 1, "a2": 2, "a3": 2, "b1": 1, "b2": 2, "c1": None}
    assert strays(groups, holders, 1, {1, 2}) == [["a1"]]
    assert strays(groups, holders, 2, {1, 2}) == [["b2"]], "of two with as much, the earlier one keeps it"
    assert strays(groups, holders, 1, {1}) == [], "a worker with another configuration would not take it"


def test_a_sink_of_another_machine_is_not_claimed() -> None:
    places = {"file": "here", "http": None, "mail": None}
    free = dict.fromkeys(["file", "http", "mail", "else"])
    assert list(sinks_to_claim(places, free, 1, 1)) == ["file", "http", "mail"]
    assert list(sinks_to_claim(places, free, 1, 2)) == ["file", "http"]
    assert list(sinks_to_claim(places, free | {"http": 1}, 1, 2)) == ["file"]
