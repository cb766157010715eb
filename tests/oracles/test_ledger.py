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


# A file begins with 42 bytes; each record has 20 of a header, then 16 for each image
# and 12 for each answer. They end at 146, 222 and 270.


@pytest.mark.parametrize(
    ("cut", "zeros"), [(1, 0), (20, 0), (28, 0), (29, 0), (47, 0), (29, 50), (47, 50)]
)
def test_record_that_was_being_written_is_dropped(path, cut, zeros, caplog):
    """Also where the file has its full length but not all of its bytes."""
    whole = path.read_bytes()
    assert len(whole) == 270
    path.write_bytes(whole[:-cut] + bytes(zeros))
    ledger = Ledger(path)
    assert len(ledger) == 5
    assert len(path.read_bytes()) == 270 - cut + zeros
    ledger.rewind(5)
    ledger.append(IMAGES[5:], ANSWERS[5:])
    assert "last record of" in caplog.text
    assert path.read_bytes() == whole


@pytest.mark.parametrize("end", [0, 3, 41, 42, 61, 145])
def test_file_without_a_complete_record_is_rewritten(path, end):
    whole = path.read_bytes()
    path.write_bytes(whole[:end])
    ledger = Ledger(path)
    assert len(ledger) == 0
    ledger.append(IMAGES[:3], ANSWERS[:3])
    assert path.read_bytes() == whole[:146]


@pytest.mark.parametrize("start", [0, 20, 222, 230, 250])
def test_zeros_to_the_end_are_dropped(path, start):
    whole = path.read_bytes()
    path.write_bytes(whole[:start] + bytes(270 - start))
    assert len(Ledger(path)) == (5 if start > 146 else 0)


def test_last_record_of_wrong_bytes_is_dropped(path):
    path.write_bytes(path.read_bytes()[:-4] + bytes(4)[:3] + b"x")
    assert len(Ledger(path)) == 5


@pytest.mark.parametrize("place", [*range(63), 145, 146, 151, 156, 165, 176, 222, 230])
def test_damage_before_the_last_record_is_an_error_and_changes_nothing(path, place):
    """Flip each bit of the headers; no flip may look like an incomplete record."""
    for bit in range(8):
        content = bytearray(path.read_bytes())
        content[place] ^= 1 << bit
        path.write_bytes(bytes(content))
        ends = (42, 146, 222, 270)
        start = max(end for end in (0, *ends) if end <= place)
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
    with pytest.raises(ValueError, match=r"have the 270 bytes.*got 318.*second run"):
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


def test_names_are_compared(tmp_path):
    ledger = Ledger(tmp_path / "q")
    ledger.attach("labels", 3, "cats")
    ledger.append(IMAGES, ANSWERS)
    for name in ("cats", ""):
        Ledger(tmp_path / "q").attach("labels", 3, name)
    with pytest.raises(ValueError, match="of the model 'dogs', got those of 'cats'"):
        Ledger(tmp_path / "q").attach("labels", 3, "dogs")


def test_every_sent_image_is_counted_across_processes(tmp_path):
    """Each process counts before it sends, and is killed before the answers."""
    path = tmp_path / "q"
    for number in range(1, 4):
        ledger = Ledger(path)
        ledger.attach("labels", 3)
        ledger.rewind(len(ledger))
        ledger.send(5, (2, 2, 1))
        ledger.send(-2, (2, 2, 1))
        ledger.append(IMAGES[:1], ANSWERS[:1])
        again = Ledger(path)
        found = (len(again), again.sent, again.wasted, again.measured)
        assert found == (number, 3 * number, 2 * number, 0)
    again.attach("labels", 3)
    again.send(2, (2, 2, 1))
    again.record_again(np.array([0, 2]), ANSWERS[:2])
    final = Ledger(path)
    assert (len(final), final.sent, final.wasted, final.measured) == (3, 11, 6, 2)
    np.testing.assert_array_equal(final.again[0][0], [0, 2])
    np.testing.assert_array_equal(final.again[0][1], ANSWERS[:2])


def test_spare_answers_become_queries_without_being_sent_again(tmp_path):
    path, twice = tmp_path / "q", IMAGES[[4, 4, 2]]
    ledger = Ledger(path)
    ledger.attach("labels", 3)
    ledger.send(3, (2, 2, 1))
    ledger.keep_spare(twice, ANSWERS[:3])
    ledger = Ledger(path)
    ledger.attach("labels", 3)
    assert (len(ledger), ledger.sent, ledger.wasted) == (0, 3, 0)
    found = ledger.spares(IMAGES[[0, 4, 2, 2]])
    assert sorted(found) == [1, 2]
    np.testing.assert_array_equal(found[1], ANSWERS[0])
    ledger.append(IMAGES[[4]], ANSWERS[:1])
    for same in (ledger, Ledger(path)):
        assert (len(same), same.sent, same.wasted) == (1, 3, 0)
        np.testing.assert_array_equal(same.spares(IMAGES[4:])[0], ANSWERS[1])


def test_full_disk_names_the_file_and_loses_nothing(path, monkeypatch):
    ledger = Ledger(path)
    ledger.rewind(6)

    def full(number):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match=r"No space.*free space.*queries\.ledger"):
            ledger.append(IMAGES[:1], ANSWERS[:1])
    assert len(ledger) == 6
    ledger.append(IMAGES[:1], ANSWERS[:1])
    assert len(Ledger(path)) == 7
