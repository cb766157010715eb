"""The ledger: order, replays, and files that were cut or damaged."""

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


def test_opened_again_it_stands_at_its_beginning(path):
    ledger = Ledger(path)
    assert (len(ledger), ledger.position) == (6, 0)
    np.testing.assert_array_equal(ledger.replay(IMAGES[:4]), ANSWERS[:4])
    images, answers = ledger.made()
    np.testing.assert_array_equal(images, IMAGES[:4])
    np.testing.assert_array_equal(answers, ANSWERS[:4])
    more = np.concatenate([IMAGES[4:], IMAGES[:1]])
    np.testing.assert_array_equal(ledger.replay(more), ANSWERS[4:])
    assert ledger.replay(more) is None


def test_goes_on_where_a_checkpoint_was(path):
    ledger = Ledger(path)
    ledger.rewind(5)
    np.testing.assert_array_equal(ledger.replay(IMAGES[5:]), ANSWERS[5:])
    ledger.append(IMAGES[:1], ANSWERS[:1])
    assert len(Ledger(path)) == 7


def test_same_answer_to_other_images_is_refused(path):
    ledger = Ledger(path)
    with pytest.raises(ValueError, match=r"other images at queries 0 to 1"):
        ledger.replay(IMAGES[::-1][:2])
    with pytest.raises(ValueError, match="stands at query 0 of 6"):
        ledger.append(IMAGES[:1], ANSWERS[:1])
    with pytest.raises(ValueError, match=r"from 0 to the 6 queries.*got 7"):
        ledger.rewind(7)
    with pytest.raises(ValueError, match="No query has been made"):
        ledger.made()


@pytest.mark.parametrize("cut", [1, 20, 40, 55])
def test_record_that_was_being_written_is_dropped(path, cut):
    """The last record has 28 bytes of header, 16 of an image and 12 of an answer."""
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    ledger = Ledger(path)
    assert len(ledger) == 5
    ledger.rewind(5)
    ledger.append(IMAGES[5:], ANSWERS[5:])
    assert path.read_bytes() == whole


def test_last_record_of_wrong_bytes_is_dropped(path):
    path.write_bytes(path.read_bytes()[:-4] + bytes(4)[:3] + b"x")
    assert len(Ledger(path)) == 5


@pytest.mark.parametrize("place", [0, 40])
def test_damage_before_the_last_record_is_told(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="at byte 0 there is no whole record"):
        Ledger(path)
