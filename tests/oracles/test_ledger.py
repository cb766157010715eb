"""Test the ledger: order, replays, and incomplete or damaged files."""

import numpy as np
import pytest

from advgan_jax.oracles import Ledger

IMAGES = np.random.default_rng(0).random((6, 2, 2, 1), np.float32)
ANSWERS = np.eye(6, 3, dtype=np.float32)


@pytest.fixture
def path(tmp_path):
    """A file of three records, of 3, 2 and 1 queries."""
    path = tmp_path / "new" / "queries.ledger"
    ledger = Ledger(path)
    for start, end in ((0, 3), (3, 5), (5, 6)):
        ledger.append(IMAGES[start:end], ANSWERS[start:end])
    return path


def test_a_reopened_ledger_starts_at_its_first_query(path):
    ledger = Ledger(path)
    assert (len(ledger), ledger.position) == (6, 0)
    np.testing.assert_array_equal(ledger.replay(IMAGES[:4]), ANSWERS[:4])
    images, answers = ledger.made()
    np.testing.assert_array_equal(images, IMAGES[:4])
    np.testing.assert_array_equal(answers, ANSWERS[:4])
    more = np.concatenate([IMAGES[4:], IMAGES[:1]])
    np.testing.assert_array_equal(ledger.replay(more), ANSWERS[4:])
    assert ledger.replay(more) is None


def test_resumes_at_a_checkpoint(path):
    ledger = Ledger(path)
    ledger.rewind(5)
    np.testing.assert_array_equal(ledger.replay(IMAGES[5:]), ANSWERS[5:])
    ledger.append(IMAGES[:1], ANSWERS[:1])
    assert len(Ledger(path)) == 7


def test_same_answer_to_other_images_is_refused(path):
    ledger = Ledger(path)
    with pytest.raises(ValueError, match=r"other images at queries 0 to 1"):
        ledger.replay(IMAGES[::-1][:2])
    with pytest.raises(ValueError, match="is at query 0 of 6; replay"):
        ledger.append(IMAGES[:1], ANSWERS[:1])
    with pytest.raises(ValueError, match=r"from 0 to the 6 queries.*got 7"):
        ledger.rewind(7)
    with pytest.raises(ValueError, match="No query has been made"):
        ledger.made()


# A file begins with 40 bytes; each record has 16 of a header, then 16 for each image
# and 12 for each answer. They end at 140, 212 and 256.


@pytest.mark.parametrize(
    ("cut", "zeros"), [(1, 0), (20, 0), (28, 0), (29, 0), (43, 0), (29, 50), (43, 50)]
)
def test_record_that_was_being_written_is_dropped(path, cut, zeros, caplog):
    """Also where the file has its full length but not all of its bytes."""
    whole = path.read_bytes()
    assert len(whole) == 256
    path.write_bytes(whole[:-cut] + bytes(zeros))
    ledger = Ledger(path)
    assert len(ledger) == 5
    assert len(path.read_bytes()) == 256 - cut + zeros
    ledger.rewind(5)
    ledger.append(IMAGES[5:], ANSWERS[5:])
    assert "last record of" in caplog.text
    assert path.read_bytes() == whole


@pytest.mark.parametrize("end", [0, 3, 39, 40, 55, 139])
def test_file_without_a_complete_record_is_rewritten(path, end):
    whole = path.read_bytes()
    path.write_bytes(whole[:end])
    ledger = Ledger(path)
    assert len(ledger) == 0
    ledger.append(IMAGES[:3], ANSWERS[:3])
    assert path.read_bytes() == whole[:140]


@pytest.mark.parametrize("start", [0, 20, 212, 220, 240])
def test_zeros_to_the_end_are_dropped(path, start):
    whole = path.read_bytes()
    path.write_bytes(whole[:start] + bytes(256 - start))
    assert len(Ledger(path)) == (5 if start > 140 else 0)


def test_last_record_of_wrong_bytes_is_dropped(path):
    path.write_bytes(path.read_bytes()[:-4] + bytes(4)[:3] + b"x")
    assert len(Ledger(path)) == 5


@pytest.mark.parametrize("place", [*range(57), 139, 140, 145, 150, 155, 170, 212, 220])
def test_damage_before_the_last_record_is_an_error_and_changes_nothing(path, place):
    """Flip each bit of the headers; no flip may look like an incomplete record."""
    for bit in range(8):
        content = bytearray(path.read_bytes())
        content[place] ^= 1 << bit
        path.write_bytes(bytes(content))
        start = 0 if place < 40 else 40 if place < 140 else 140 if place < 212 else 212
        with pytest.raises(ValueError, match=f"byte {start} starts no complete rec"):
            Ledger(path)
        assert path.read_bytes() == bytes(content)
        content[place] ^= 1 << bit
        path.write_bytes(bytes(content))


@pytest.mark.parametrize("content", [b"{}", b"a,b\n1,2\n" * 20, b"\x89PNG"])
def test_other_files_are_not_changed(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="must be a ledger of queries, but byte 0"):
        Ledger(path)
    assert path.read_bytes() == content


def test_two_writers_of_one_file_are_an_error(path):
    one, two = Ledger(path), Ledger(path)
    one.rewind(6), two.rewind(6)
    one.append(IMAGES[:1], ANSWERS[:1])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"have the 256 bytes.*got 300.*second run"):
        two.append(IMAGES[:1], ANSWERS[:1])
    assert path.read_bytes() == before


def test_answers_of_another_oracle_are_rejected(tmp_path):
    ledger = Ledger(tmp_path / "q")
    ledger.attach("labels", 3)
    ledger.append(IMAGES, ANSWERS)
    again = Ledger(tmp_path / "q")
    again.attach("labels", 3)
    for other in (("logits", 3), ("labels", 4)):
        with pytest.raises(ValueError, match=r"must hold l\w+ of .*got labels of 3 cl"):
            again.attach(*other)
    wide = np.zeros((1, 2, 3, 1), np.float32)
    with pytest.raises(ValueError, match=r"images of shape \[2, 2, 1\].*got \[2, 3, 1"):
        again.replay(wide)
    with pytest.raises(ValueError, match="and 2; it belongs to another oracle"):
        ledger.append(IMAGES, ANSWERS[:, :2])
