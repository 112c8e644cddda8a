"""Archives as streams: what is in them, what is not, and how much of it is held."""

import gzip
import io
import json
import re
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from roundsman.errors import Unreadable
from roundsman.events import Event
from roundsman.kit import archive
from roundsman.kit.archive import Limits, members
from roundsman.sandbox.mailchimp import bad_address, pack
from roundsman.shapes import Batch
from roundsman.sources.mailchimp.digests import DIGEST, Digests
from roundsman.sources.mailchimp.operations import Operations
from roundsman.sources.mailchimp.stencils import Stencil
from roundsman.times import parse_time

BATCH: Batch = {
    "batch_id": "b1",
    "outcome": "failed",
    "status": "finished",
    "total": 1,
    "failed": 1,
    "submitted_at": "2026-05-01T06:58:12Z",
    "completed_at": "2026-05-01T06:59:12.500Z",
    "failures": None,
    "failures_cap": 20,
    "raw": {},
}


def tar(*files: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, body in files:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(body), kind
            made.addfile(info, io.BytesIO(body))
    return out.getvalue()


def read(packed: bytes, **limits: Any) -> tuple[list[tuple[str, bytes]], str]:
    """The files, and what ended the reading."""
    found = []
    try:
        for member in members(io.BytesIO(packed), Limits(**limits)):
            if member is not None:
                rest = b"".join(piece or b"" for piece in member.rest or ())
                found.append((member.name, member.body + rest))
    except Unreadable as exc:
        return found, str(exc)
    return found, ""


def reading(packed: bytes) -> list[list[Event]]:
    return list(Operations("news", BATCH, Limits(), all_=False).pages(io.BytesIO(packed)))


THREE = tar(("./0000001.json", b"[1]"), ("empty", b""), ("x" * 100, b"2" * 700))


@given(
    at=st.integers(0, 511),
    block=st.sampled_from([0, 2, 3]),
    byte=st.sampled_from(list(b"\0 0127x\x80\xff")),
    right=st.booleans(),
)
def test_the_quick_look_at_a_header_finds_what_tarfile_finds(
    at: int, block: int, byte: int, right: bool
) -> None:
    """`right`: whether the checksum is made to fit what was changed."""
    whole = bytearray(THREE)
    header = memoryview(whole)[block * 512 : block * 512 + 512]
    header[at] = byte
    if right:
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    quick = read(bytes(whole))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(archive, "_USUAL", re.compile(rb"(?!)"))
        assert read(bytes(whole)) == quick


def test_a_size_that_the_checksum_does_not_confirm_is_damage() -> None:
    wrong = THREE.replace(b"00000000003\0", b"00000000002\0", 1)
    assert wrong != THREE
    assert read(wrong) == ([], "the archive is damaged: bad checksum")


def test_what_precedes_the_damage_is_read() -> None:
    files = [(f"{n}", json.dumps([n] * 90).encode()) for n in range(2000)]
    packed = bytearray(gzip.compress(tar(*files), mtime=0))
    half = len(packed) // 2
    packed[half : half + 20] = b"\xff" * 20
    found, why = read(bytes(packed))
    assert len(found) > 900
    assert found == files[: len(found)]
    assert "damaged" in why


def test_a_wrong_checksum_of_the_whole_is_damage_although_all_is_read() -> None:
    for whole in (THREE, THREE.rstrip(b"\0") + b"\0" * 324):
        packed = bytearray(gzip.compress(whole, mtime=0))
        packed[-5] ^= 1
        found, why = read(bytes(packed))
        assert (len(found), "incorrect" in why) == (3, True)


def test_an_archive_in_several_gzip_parts_is_one() -> None:
    parts = gzip.compress(THREE[:700]) + gzip.compress(b"") + b"\0" * 40_000 + gzip.compress(THREE[700:])
    assert read(parts) == read(THREE)
    assert read(gzip.compress(b"") * 5000)[1] == "the archive is damaged: it unpacks to nothing"


def test_the_limit_of_bytes_is_kept_to_the_byte() -> None:
    plain = tar(("a", b"1" * 600))
    assert read(plain, unpacked=512 + 1024 + 512)[1] == ""
    for size in (1, 511, 512, 1500, 1535, 1536, 2047):
        assert f"more than limits.unpacked ({size} bytes)" in read(plain, unpacked=size)[1]


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, b"Q"])
def test_other_tasks_get_a_turn_while_nothing_is_found(kind: bytes) -> None:
    """A visit to a bad archive stopped the event loop for as long as it took to unpack."""
    size = 20_000_000
    pages = reading(gzip.compress(tar(("blanks", b" " * size), kind=kind), 1))
    assert len(pages) >= size / archive.UNPACKED


def test_other_tasks_get_a_turn_between_many_small_operations() -> None:
    packed = pack([bad_address("a@b.example")] * 2500, together=True)
    assert len(gzip.decompress(packed)) < archive.LARGE
    assert len(reading(packed)) >= 10


@pytest.mark.parametrize("broken", [b"{x}", b"null"])
def test_other_tasks_get_a_turn_between_many_unreadable_operations(broken: bytes) -> None:
    """A file of a megabyte stopped the event loop for seconds."""
    assert len(reading(gzip.compress(tar(("a", b"[" + b",".join([broken] * 5000) + b"]"))))) >= 20


MEMORY = """
import io, sys
from pathlib import Path
from roundsman.kit.archive import Limits
from roundsman.sandbox.mailchimp import pack
from roundsman.sources.mailchimp.operations import Operations
from test_archive import BATCH

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

def read(file):
    reading = Operations("news", BATCH, Limits(), all_=False)
    return sum(map(len, reading.pages(file)))

for name in sys.argv[1:]:
    with open(name, "rb") as file:
        print(read(file), peak())
"""


def result(size: int, *, fails: bool) -> bytes:
    """The result of an operation, of so many bytes or a little more."""
    status = 400 if fails else 200
    answer = json.dumps({"detail": "no", "id": "0" * size})
    return json.dumps({"status_code": status, "response": answer}).encode()


@pytest.mark.parametrize(
    ("some", "largest"),
    [
        ([result(4000, fails=False)] * 99 + [result(4000, fails=True)], 4000),
        ([result(10**6, fails=True)], 10**6),
    ],
    ids=["small", "large"],
)
def test_what_is_held_of_a_file_of_300_mb_is_some_operations(
    some: list[bytes], largest: int, tmp_path: Path
) -> None:
    """All events up to 2,000 were held, however large they were."""
    text = b",".join(some)
    times = 300_000_000 // len(text) + 1
    info = tarfile.TarInfo("all.json")
    info.size = times * (len(text) + 1) + 1
    with gzip.open(tmp_path / "large.tgz", "wb", 1) as file:
        file.write(info.tobuf())
        for n in range(times):
            file.write((b"," if n else b"[") + text)
        file.write(b"]" + b"\0" * (-info.size % 512 + 1024))
    (tmp_path / "small.tgz").write_bytes(pack([bad_address("a@b.example", "bad")] * 3000, together=True))
    command = [sys.executable, "-c", MEMORY, tmp_path / "small.tgz", tmp_path / "large.tgz"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    (few, before), (many, after) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert (few, many) == (3000, times)
    assert after - before < 4096 + 20 * largest // 1024, "kB"


texts = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    ["", '"', "\\ud83d", "é", "\0id", "a\nb"]
)


@given(
    source=st.from_regex(r"[a-z][a-z0-9_-]{0,9}", fullmatch=True),
    subject=st.none() | texts,
    message=texts,
    key=st.from_regex(r"[0-9a-f]{18}(:[0-9]{1,3})?", fullmatch=True),
    done=st.sampled_from([None, "2026-05-01T06:59:12.500Z"]),
    good=st.booleans(),
)
def test_a_stencil_makes_the_event_that_the_event_makes_of_itself(
    source: str, subject: str | None, message: str, key: str, done: str | None, good: bool
) -> None:
    kind, outcome = ("operation_succeeded", "succeeded") if good else ("operation_failed", "failed")
    batch: Batch = {**BATCH, "completed_at": done}
    data = {"batch_id": "b1", "message": message, "raw": {"n": 1}}
    made = Stencil(source, batch, kind, outcome).event(key, subject, data)  # type: ignore[arg-type]
    assert made == Event.of(
        vendor="mailchimp",
        source=source,
        type=f"com.mailchimp.batch.{kind}",
        id=f"b1:{key}",
        data=data,
        time=done,
        subject=subject or "b1",
        outcome=outcome,  # type: ignore[arg-type]
        stamp=parse_time(done or batch["submitted_at"]),
    )


@given(
    st.lists(
        st.binary(min_size=DIGEST, max_size=DIGEST)
        | st.sampled_from([b"a" * 9, b"aaaab" * 2]).map(lambda b: b[:9])
    )
)
def test_digests_count_as_a_counter_does(added: list[bytes]) -> None:
    digests, counter = Digests(), Counter[bytes]()
    for each in added:
        counter[each] += 1
        assert digests.add(each) == counter[each]


@pytest.mark.parametrize("levels", range(10, 58, 4))
def test_an_answer_encoded_in_an_answer_again_and_again_fails_no_archive(levels: int) -> None:
    """It ended the visit with a RecursionError, at each try."""
    text = "https://x.example/y?Signature=SECRET"
    for _ in range(14):
        text = "[" * levels + json.dumps(text) + "]" * levels
    body = json.dumps([{"status_code": 400, "response": text, "operation_id": text}]).encode()
    reading = Operations("source", BATCH, Limits(), all_=False)
    [event] = [each for page in reading.pages(io.BytesIO(tar(("a", body)))) for each in page]
    raw = event.document()["data"]["raw"]
    assert raw["status_code"] == 400
    assert "SECRET" not in raw["response"]


def test_a_thousand_pieces_of_a_byte_each_let_other_tasks_run() -> None:
    """All that a file of 1 MB was packed in was unpacked at once: 9 seconds for a million pieces."""
    whole = tar(("a", b" " * 3000))
    parts = b"".join(gzip.compress(whole[at : at + 1], mtime=0) for at in range(len(whole)))
    found = list(members(io.BytesIO(parts), Limits()))
    assert [each.body for each in found if each is not None] == [b" " * 3000]
    assert found.count(None) >= 40


@pytest.mark.parametrize("many", [1000, 1001, 5000])
def test_an_operation_that_left_many_people_out_is_held_once(many: int) -> None:
    """Each person's event held the addresses of all: some gigabytes for an operation of a megabyte."""
    error = {"error": "no", "email_addresses": [f"a{n}@b.example" for n in range(many)]}
    answer = json.dumps({"errors": [error], "error_count": many + 1})
    pages = reading(tar(("a", json.dumps([{"status_code": 200, "response": answer}]).encode())))
    events = [event for page in pages for event in page]
    assert len({event.id for event in events}) == len(events) == many + 1
    assert max(sum(len(event.body) for event in page) for page in pages) < 5 * 2**20
    raw = events[0].document()["data"]["raw"]
    assert raw["email_address"] == "a0@b.example"
    assert ("email_addresses" in raw) == (many <= 1000)
