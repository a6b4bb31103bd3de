"""The photos of a project in the order of review: which are shown, which comes next, how far one is. No Qt."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator

from napari_skinseg.project.project import REVIEWED, Photo, Queue, QueueItem

ALL, TO_DO = "all", "to do"
FILTERS = (ALL, TO_DO, "new", "predicted", "corrected", "accepted", "skipped", "issue")


class ReviewList:
    """Photos in the frozen order of a queue, those that were not found at the end.

    Attributes:
        wanted: one of `FILTERS`.
        shown: ids of the photos that pass it, in order.
    """

    def __init__(self, photos: Iterable[Photo], queue: Queue) -> None:
        self._photos = {photo.id: photo for photo in photos}
        missing = [one for one in self._photos if queue.place(one) is None]
        items = [item for item in queue.items if item.photo in self._photos]
        self.queue = Queue((*items, *(QueueItem(one, "not found") for one in missing)), queue.order)
        self.wanted = ALL
        self.shown: list[str] = []
        self.show(ALL)

    def __len__(self) -> int:
        return len(self._photos)

    def __contains__(self, photo: str) -> bool:
        return photo in self._photos

    def __getitem__(self, photo: str) -> Photo:
        return self._photos[photo]

    def show(self, wanted: str) -> None:
        """Show those that pass the filter `wanted`."""
        self.wanted = wanted
        self.shown = [item.photo for item in self.queue.items if self.passes(item.photo)]

    def put(self, photo: Photo) -> bool:
        """Take the news of a photo; False if they are older than what is known."""
        known = self._photos.get(photo.id)
        if known is None or photo.changed_at < known.changed_at:
            return False
        self._photos[photo.id] = photo
        return True

    def learn_from(self, other: "ReviewList") -> None:
        """Take what another list knows of the same photos, where that is newer."""
        for photo in other._photos.values():
            if photo.id in self and photo.changed_at > self[photo.id].changed_at:
                self.put(photo)

    def add(self, photos: Iterable[Photo]) -> None:
        """Append photos that are new to the project."""
        new = {photo.id: photo for photo in photos if photo.id not in self._photos}
        self._photos |= new
        self.queue = self.queue.with_more(tuple(new))
        self.show(self.wanted)

    def passes(self, photo: str) -> bool:
        """Whether the filter shows a photo."""
        status = self._photos[photo].status
        if self.wanted == TO_DO:
            return status not in REVIEWED
        return self.wanted in (ALL, status)

    def row(self, photo: str) -> int:
        """Where a photo is among the shown, or would be."""
        place = self.queue.place(photo)
        return bisect_left(self.shown, -1 if place is None else place, key=lambda one: self.queue.place(one) or 0)

    def reason(self, photo: str) -> str:
        """Why the photo has its place."""
        place = self.queue.place(photo)
        return "" if place is None else self.queue.items[place].reason

    def step(self, photo: str, by: int) -> str | None:
        """The shown photo after `photo` (by = 1) or before it (by = -1); None beyond the ends."""
        row = self.row(photo)
        is_shown = row < len(self.shown) and self.shown[row] == photo
        there = row + by if is_shown or by < 0 else row
        return self.shown[there] if 0 <= there < len(self.shown) else None

    def next_open(self, photo: str) -> str | None:
        """Where a decision on `photo` leads: to the next shown that is still open, going round at the end.

        Where the filter shows reviewed photos only, to the next of those.
        """
        anything = self.wanted not in (ALL, TO_DO, "new", "predicted")
        turned = self._after(photo, around=not anything)
        return next((one for one in turned if anything or self._photos[one].status not in REVIEWED), None)

    def next_alike(self, photo: str) -> str | None:
        """The next shown photo of the same status, going round at the end."""
        status = self._photos[photo].status
        return next((one for one in self._after(photo, around=True) if self._photos[one].status == status), None)

    def ahead(self, photo: str, number: int = 3) -> list[str]:
        """What is likely to be looked at after `photo`: where decisions lead, and where *Next* does."""
        found: dict[str, None] = {}
        decided, passed = photo, photo
        for _ in range(number):
            decided, passed = self.next_open(decided) or decided, self.step(passed, 1) or passed
            found |= {decided: None, passed: None}
        return [one for one in found if one != photo]

    def counts(self) -> dict[str, int]:
        """Number of photos that each filter shows, and "reviewed"."""
        by_status: Counter[str] = Counter(photo.status for photo in self._photos.values())
        reviewed = sum(by_status[status] for status in REVIEWED)
        named = {wanted: by_status[wanted] for wanted in FILTERS[2:]}
        return {ALL: len(self), TO_DO: len(self) - reviewed, "reviewed": reviewed, **named}

    def to_predict(self) -> list[str]:
        """The photos that no model has drawn yet, in order."""
        here = (item.photo for item in self.queue.items)
        return [one for one in here if not self._photos[one].predicted_file and self._photos[one].state == "here"]

    def has_blind(self) -> bool:
        """Whether some photo that is still to be done is of the blind sample."""
        return any(photo.blind and photo.status not in REVIEWED for photo in self._photos.values())

    def _after(self, photo: str, *, around: bool) -> Iterator[str]:
        row = self.row(photo)
        start = row + 1 if row < len(self.shown) and self.shown[row] == photo else row
        yield from (self.shown[place] for place in range(start, len(self.shown)))
        if around:
            yield from (self.shown[place] for place in range(row))
