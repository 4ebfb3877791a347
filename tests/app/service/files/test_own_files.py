"""A file in the making: parts of this process and of others, checked as a whole at its end."""

import hashlib

import pytest

from app.service.files.own_files import Damaged, NewFile, own_part
from tests.support.network import open_in_memory

PARTS = [b"first", b"second", b"third"]
WHOLE = hashlib.sha256(b"firstsecondthird").hexdigest()


def sha(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
async def blobs():
    documents, blobs = await open_in_memory()
    yield blobs
    await documents.close()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (2, 1, 0)])
async def test_the_order_in_which_parts_are_made_does_not_matter(blobs, order):
    file = NewFile(blobs, "models/e/0000001")
    for number in order:
        await file.put(number, PARTS[number])
    blob = await file.finish()
    assert (blob.sha256, blob.sizes) == (WHOLE, (5, 6, 5))
    assert blob.parts == tuple(map(sha, PARTS))
    assert [await own_part(blobs, blob, number) for number in range(3)] == PARTS


async def test_another_process_finds_the_parts_and_reads_only_those_that_it_did_not_make(blobs):
    earlier = NewFile(blobs, "models/e/0000001")
    await earlier.put(1, PARTS[1])
    file = NewFile(blobs, "models/e/0000001")
    await file.find_parts()
    assert [file.has(number) for number in range(3)] == [False, True, False]
    await file.put(0, PARTS[0])
    await file.put(2, PARTS[2])
    assert file.undigested == 2  # the part of the earlier process, and the one behind it
    assert (await file.finish()).sha256 == WHOLE
    assert file.undigested == 0


@pytest.mark.parametrize("damage", [None, b"SECOND"], ids=["gone", "altered"])
async def test_a_damaged_part_is_named_and_can_be_made_again(blobs, damage):
    earlier, file = NewFile(blobs, "models/e/0000001"), NewFile(blobs, "models/e/0000001")
    await earlier.put(1, PARTS[1])
    await file.find_parts()
    key = f"models/e/0000001/00001-{sha(PARTS[1])}"
    assert await blobs.sizes("models/") == {key: 6}
    await blobs.delete(key)
    if damage is not None:
        await blobs.put(key, damage)
    await file.put(0, PARTS[0])
    await file.put(2, PARTS[2])
    with pytest.raises(Damaged) as caught:
        await file.finish()
    assert caught.value.prefix == key
    assert not file.has(1)
    await blobs.delete(caught.value.prefix)
    await file.put(1, PARTS[1])
    assert (await file.finish()).sha256 == WHOLE
