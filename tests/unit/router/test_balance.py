"""The page of connection counts that routers share."""

import os

import pytest

from greentic.router.balance import PLACES, Balance, Places


def test_each_sees_the_others_but_not_itself() -> None:
    places = Places()
    try:
        first, second, third = (Balance(places.descriptor, places.take()) for _ in range(3))
        assert first.others() == [], "nobody else has begun"
        first.tell(7)
        assert first.others() == []
        assert second.others() == [7]
        second.tell(0)
        assert first.others() == [0]
        third.tell(3)
        assert second.others() == [7, 3]
        second.leave()
        assert first.others() == [3]
        third.leave()
        assert first.others() == []
    finally:
        places.close()


def test_the_place_of_an_ended_process_counts_no_more_and_is_given_out_again() -> None:
    places = Places()
    try:
        one, other = places.take(), places.take()
        Balance(places.descriptor, one).tell(1)
        survivor = Balance(places.descriptor, other)
        assert survivor.others() == [1]
        places.give_back(one)
        assert survivor.others() == []
        assert places.take() == one
        taken = [places.take() for _ in range(PLACES - 2)]
        assert len({one, other, *taken}) == PLACES
        with pytest.raises(IndexError):
            places.take()
    finally:
        places.close()


def test_the_file_has_no_name() -> None:
    places = Places()
    assert os.fstat(places.descriptor).st_nlink == 0
    places.close()
