"""The photos of a project in the order of review: filter, next photo, counts. No Qt."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator

from napari_skinseg.project.project import Photo, Queue, QueueItem

ALL, TO_DO = "all", "to do"
FILTERS = (ALL, TO_DO, "new", "predicted", "corrected", "accepted", "skipped", "issue")


class PhotoList:
    """Photos in the fixed order of a queue; photos that are missing on disk come last.

    Attributes:
        queue: the order of all photos.
        filter: one of `FILTERS`.
        shown: ids of the photos that pass the filter, in order.
    """

    def __init__(self, photos: Iterable[Photo], queue: Queue) -> None:
        self._photos = {photo.id: photo for photo in photos}
        missing = [photo for photo in self._photos if queue.place(photo) is None]
        items = [item for item in queue.items if item.photo in self._photos]
        self.queue = Queue((*items, *(QueueItem(photo, "file not found") for photo in missing)), queue.order)
        self.filter = ALL
        self.shown: list[str] = []
        self.set_filter(ALL)

    def __len__(self) -> int:
        return len(self._photos)

    def __contains__(self, photo: str) -> bool:
        return photo in self._photos

    def __getitem__(self, photo: str) -> Photo:
        return self._photos[photo]

    def set_filter(self, name: str) -> None:
        """Show the photos that pass the filter `name`."""
        self.filter = name
        self.shown = [item.photo for item in self.queue.items if self.passes(item.photo)]

    def update(self, photo: Photo) -> bool:
        """Replace a photo by its newer state; False if the known state is newer."""
        known = self._photos.get(photo.id)
        if known is None or photo.changed_at < known.changed_at:
            return False
        self._photos[photo.id] = photo
        return True

    def update_from(self, other: "PhotoList") -> None:
        """Copy the photos of another list whose state is newer."""
        for photo in other._photos.values():
            if photo.id in self and photo.changed_at > self[photo.id].changed_at:
                self.update(photo)

    def add(self, photos: Iterable[Photo]) -> None:
        """Append photos that are new to the project."""
        new = {photo.id: photo for photo in photos if photo.id not in self._photos}
        self._photos |= new
        self.queue = self.queue.with_more(tuple(new))
        self.set_filter(self.filter)

    def passes(self, photo: str) -> bool:
        """Whether a photo passes the filter."""
        record = self._photos[photo]
        return not record.reviewed if self.filter == TO_DO else self.filter in (ALL, record.status)

    def row(self, photo: str) -> int:
        """The index of a photo in `shown`, or where the photo would be inserted."""
        place = self.queue.place(photo)
        return bisect_left(self.shown, -1 if place is None else place, key=lambda shown: self.queue.place(shown) or 0)

    def is_shown(self, photo: str) -> bool:
        """Whether a photo is in `shown`."""
        row = self.row(photo)
        return row < len(self.shown) and self.shown[row] == photo

    def reason(self, photo: str) -> str:
        """Why the photo has its place in the order."""
        place = self.queue.place(photo)
        return "" if place is None else self.queue.items[place].reason

    def step(self, photo: str, by: int) -> str | None:
        """The shown photo after `photo` (by = 1) or before it (by = -1); None at the ends."""
        row = self.row(photo)
        target = row + by if by < 0 or self.is_shown(photo) else row
        return self.shown[target] if 0 <= target < len(self.shown) else None

    def next_open(self, photo: str) -> str | None:
        """The next photo after a decision on `photo`: the next shown open photo, from the start again at the end.

        If the filter shows only reviewed photos: the next of those.
        """
        takes_reviewed = self.filter not in (ALL, TO_DO, "new", "predicted")
        following = self._after(photo, wraps=not takes_reviewed)
        return next((one for one in following if takes_reviewed or not self._photos[one].reviewed), None)

    def next_with_status(self, photo: str) -> str | None:
        """The next shown photo with the status of `photo`, from the start again at the end."""
        status = self._photos[photo].status
        return next((one for one in self._after(photo, wraps=True) if self._photos[one].status == status), None)

    def likely_next(self, photo: str) -> list[str]:
        """The photos to prefetch: those that decisions and *Next* lead to, up to three of each."""
        found: dict[str, None] = {}
        decided, passed = photo, photo
        for _ in range(3):
            decided, passed = self.next_open(decided) or decided, self.step(passed, 1) or passed
            found |= {decided: None, passed: None}
        return [one for one in found if one != photo]

    def last_changed(self) -> str:
        """The shown photo that a person changed or decided on last."""
        return max(reversed(self.shown), key=lambda photo: self._photos[photo].changed_at)

    def counts(self) -> dict[str, int]:
        """Number of photos for each filter, and "reviewed"."""
        by_status: Counter[str] = Counter(photo.status for photo in self._photos.values())
        reviewed = sum(photo.reviewed for photo in self._photos.values())
        named = {name: by_status[name] for name in FILTERS[2:]}
        return {ALL: len(self), TO_DO: len(self) - reviewed, "reviewed": reviewed, **named}

    def existing(self) -> list[Photo]:
        """The photos that the last scan found, in order."""
        photos = (self._photos[item.photo] for item in self.queue.items)
        return [photo for photo in photos if photo.state == "here"]

    def has_blind(self) -> bool:
        """Whether an open photo belongs to the blind sample."""
        return any(photo.blind and not photo.reviewed for photo in self._photos.values())

    def _after(self, photo: str, *, wraps: bool) -> Iterator[str]:
        row = self.row(photo)
        yield from self.shown[row + self.is_shown(photo) :]
        if wraps:
            yield from self.shown[:row]
