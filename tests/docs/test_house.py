"""The picture and the table of packages in the documentation are those of the code."""

import re

import house


def test_the_picture_of_the_packages_is_drawn_from_the_imports() -> None:
    assert house.PICTURE.read_text() == house.picture(), "run `make docs`"


def test_the_table_of_packages_has_their_own_first_sentences() -> None:
    assert house.PAGE.read_text() == house.page(), "run `make docs`"
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \| \S", house.page().split(house.HEAD)[1], re.MULTILINE)
    assert set(rows) == set(house.packages())


def test_every_line_of_the_picture_leads_down() -> None:
    graph = house.packages()
    floor = {name: number for number, names in enumerate(house.floors(graph)) for name in names}
    assert all(floor[other] < floor[name] for name, others in graph.items() for other in others)


def test_no_import_is_lost_in_the_picture() -> None:
    """What is not drawn follows from what is."""
    graph = house.packages()
    drawn = house.direct(graph)

    def reached(name: str, by: house.Graph) -> set[str]:
        return set().union(*({other} | reached(other, by) for other in by[name]))

    assert all(reached(name, drawn) == reached(name, graph) for name in graph)


def test_no_two_boxes_overlap() -> None:
    boxes = [
        tuple(map(float, box)) for box in re.findall(r'<rect x="(\S+)" y="(\S+)"', house.PICTURE.read_text())
    ]
    assert len(boxes) == len(house.packages())
    for number, (x, y) in enumerate(boxes):
        for other_x, other_y in boxes[:number]:
            assert abs(x - other_x) >= house.WIDTH or abs(y - other_y) >= house.HEIGHT
