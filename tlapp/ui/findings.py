"""What the audit found, in sentences and pictures, each with the decisions that would settle it.

Knows reports, datasets and decisions; knows no widgets. Every name goes through `pieces.text`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tlapp import catalog, decisions, evaluate, plan
from tlapp.dataset import Dataset, Split, has_test
from tlapp.decisions import EXCLUDE, RELABEL, TOGETHER, UNDONE, WITHDRAW, Decision
from tlapp.errors import DataError
from tlapp.photos import Photo
from tlapp.plan import Plan
from tlapp.ui import pieces, shelf

if TYPE_CHECKING:
    from tlapp.audit import Report, Suspect

MOST = 12
BY_SECTION = "near "
"""How names begin under which near copies are put together here."""
SIDE = 96
KINDS = (
    "unreadable", "copies", "near", "leaks", "outliers", "small", "blurred", "dark", "bright", "cropped", "shortcuts"
)  # fmt: skip
WHAT_IT_LOOKS_FOR = "near copies, wrong labels, photos that show little or are unlike all others, and shortcuts"


class Finding(NamedTuple):
    """One section: its title, a sentence, pictures as HTML; what its button says, what that decides, and what of it
    was decided already, to be undone.
    """

    title: str
    words: str
    body: str
    act: str = ""
    new: tuple[Decision, ...] = ()
    done: tuple[Decision, ...] = ()


@dataclass(frozen=True)
class Look:
    """What a person looks at: the photos as they were read, those that follow from the decisions, and the report.

    `share`, `seed`, `by`: test photos in per cent, and how they are drawn.
    """

    base: Dataset
    current: Dataset
    report: Report | None
    noted: list[Decision]
    share: float
    seed: int
    by: str

    @cached_property
    def labelled(self) -> dict[str, Decision]:
        """What was decided about labels, by the photos' digits, else by their names."""
        return {d.photo or d.file: d for d in self.noted if d.kind not in (TOGETHER, WITHDRAW)}

    def label_decision(self, photo: Photo) -> Decision | None:
        """What was decided about this photo's label."""
        digits = decisions.about(photo, EXCLUDE).photo
        return self.labelled.get(digits) or self.labelled.get(photo.name)

    def is_out(self, index: int) -> bool:
        """Whether the person left this photo of `base` out."""
        photo = self.base.every[index]
        decision = self.label_decision(photo)
        return (decision is not None and decision.kind == EXCLUDE) or decisions.about(photo, "").photo in self.withdrawn

    @cached_property
    def withdrawn(self) -> set[str]:
        """The digits of photos that were added and are left out for the time being."""
        return {d.photo for d in self.noted if d.kind == WITHDRAW}

    @cached_property
    def kept(self) -> list[int]:
        """Photos of `base` that the current dataset has, by their index there, in its order."""
        at = {photo.offset: i for i, photo in enumerate(self.base.every)}
        return [at[photo.offset] for photo in self.current.photos]

    @cached_property
    def given(self) -> bool:
        """Whether folders say which photos are for testing."""
        return has_test(self.base.photos)

    @cached_property
    def tested(self) -> frozenset[int]:
        """Test photos, by their index in `base`."""
        try:
            split = self.current.split(self.share / 100, Plan.validation_fraction, self.seed, self.by)
        except DataError:
            return frozenset()
        return frozenset(np.array(self.kept)[split.test].tolist())

    def is_disputed(self, one: Suspect) -> bool:
        """Whether this is a file that stands in two classes."""
        return one.index >= len(self.base.photos)

    @cached_property
    def waiting(self) -> list[Suspect]:
        """Those about which nothing was decided yet."""
        return [s for s in self.contradicted if not self.label_decision(self.base.every[s.index])]

    @cached_property
    def contradicted(self) -> list[Suspect]:
        """All labels to decide on: files that stand in two classes, then contradicted labels, worst first."""
        if self.report is None:
            return []
        from tlapp.audit import Suspect

        at = {name: i for i, name in enumerate(self.base.classes)}
        first = len(self.base.photos)
        pairs = (one.classes[:2] for one in self.base.disputed)
        two = [Suspect(i, at[one], at[other], 0.0) for i, (one, other) in enumerate(pairs, first)]
        return two + self.report.contradicted()

    @property
    def to_undo(self) -> list[Decision]:
        """What Undo all takes back: all but that photos which were added were taken out again, for good."""
        return [d for d in self.noted if not (d.kind == WITHDRAW and d.value == UNDONE)]

    @cached_property
    def last(self) -> Decision | None:
        """The newest decision about a contradicted label that was made as such, not by a section."""
        photos = [self.base.every[s.index] for s in self.contradicted]
        made = [self.label_decision(photo) for photo in photos]
        about = {id(d) for d in made if d and not (d.kind == EXCLUDE and d.value)}
        return next((d for d in reversed(self.noted) if id(d) in about), None)

    def label_of(self, index: int) -> str:
        """The class of a photo of `base`, as decided."""
        photo = self.base.photos[index]
        decision = self.label_decision(photo)
        return decision.value if decision and decision.kind == RELABEL else self.base.classes[photo.label]


def found(look: Look) -> dict[str, Finding]:
    """Sections by kind, in the order of `KINDS`; those with nothing to say are left out."""
    report = look.report
    if report is None:
        return {}
    flaws = report.flaws
    sections = {
        "unreadable": _unreadable(look),
        "copies": _copies(look),
        "near": _near(look, report),
        "leaks": _leaks(look, report),
        "outliers": _out(look, report.outliers, "Unlike all others", "far from every other photo. Not a photo of any "
                         "class, perhaps; or a rare case of which a few more would help."),
        "small": _out(look, flaws.small, "Very small", "so small that the network sees them blown up."),
        "blurred": _out(look, flaws.blurred, "Blurred", "with hardly an edge in focus."),
        "dark": _out(look, flaws.dark, "Very dark", "almost black."),
        "bright": _out(look, flaws.bright, "Very bright", "almost white."),
        "cropped": _cropped(look, report),
        "shortcuts": _shortcuts(look, report),
    }  # fmt: skip
    return {kind: section for kind, section in sections.items() if section}


def section(look: Look, finding: Finding) -> str:
    """A finding as HTML, without its button."""
    return f"<h3>{pieces.text(finding.title)}</h3><p>{pieces.words(finding.words)}</p>{finding.body}"


def name(text: str, most: int = 40) -> str:
    """A class name that fits a button."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def verdict(look: Look, sections: dict[str, Finding]) -> str:
    """The report's first sentence, as HTML."""
    assert look.report
    n = len(look.base.photos)
    took = f"{pieces.count(n, 'photo')} looked at in {look.report.seconds:.0f} s."
    unexamined = "".join(pieces.notice("warn", note) for note in look.report.notes)
    if sections or look.contradicted:
        titles = [section.title.lower() for section in sections.values()]
        if look.contradicted:
            titles.append("labels to decide on")
        listed = titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"
        return f"<p>{pieces.text(took)} Found: {pieces.text(listed)}.</p>{unexamined}"
    found_nothing = "Nothing was found that would spoil your model"
    if not unexamined:
        found_nothing += (
            ": no near copies, no contradicted labels, no photos that show little or are unlike the others, "
        )
        found_nothing += "no shortcuts"
    return pieces.notice("info", f"{took} {found_nothing}.") + unexamined


def lopsided(dataset: Dataset) -> str:
    """What is done where a class has far more photos than another, as HTML."""
    return pieces.notice("warn", plan.uneven(dataset))


def ahead(report: Report) -> str:
    """What more photos would bring, as HTML."""
    points = report.curve.points
    title = "<h3>What to shoot next</h3>"
    if not points:
        return (
            f"{title}<p>The classes are too small, or their photos too alike, to say what more photos would bring.</p>"
        )
    from tlapp.forecast import MORE

    last, now, then = points[-1], report.curve.now, report.curve.ahead
    if now and then:
        now_about, then_about = (
            f"about {evaluate.percent(p.accuracy)} ({evaluate.plausibly((p.low, p.high))})" for p in (now, then)
        )
        said = (
            f"{MORE} more photos of each class, {then.per_class} instead of {now.per_class}, would bring {then_about}"
        )
        said += f", from {now_about}: foreseen from {pieces.count(last.n, 'photo')}, {evaluate.UNSEEN}."
        if then.accuracy <= now.high:
            said += " That is within what chance allows: more photos alone may change little."
    else:
        said = f"About {last.brief()} now. The classes are too small to say what more photos would bring."
    rows = [[p.per_class, pieces.percent(p.accuracy), p.n, evaluate.span((p.low, p.high))] for p in points]
    caption = f"Measured with the instant model's kind of head on photos, test photos included, {evaluate.UNSEEN}."
    table = pieces.table(["Photos of each class", "Right", "Photos asked", "95 % interval"], rows, caption)
    return (
        f"{title}<p>{pieces.text(said)}</p>"
        f'<details class="tl-details"><summary>How accuracy rose with photos</summary>{table}</details>'
    )


def suspect(look: Look, one: Suspect) -> str:
    """A contradicted label, large, as HTML."""
    photo, classes = look.base.every[one.index], look.base.classes
    label, other = classes[one.label], classes[one.suggested]
    said = f"Labelled `{label}`; the other photos say `{other}`."
    if one.score < 0.1:
        said += f" Hardly anything speaks for `{label}`."
    side = "A test photo: if its label is wrong, so is the score." if one.index in look.tested else "Not a test photo."
    if look.is_disputed(one):
        names = look.base.disputed[one.index - len(look.base.photos)].classes
        said = f"The very same file stands in {' and in '.join(f'`{name}`' for name in names)}."
        side = "It is left out until you say what it is."
    place = len(look.contradicted) - len(look.waiting) + 1
    source = shelf.whole(look.base, one.index, 320)
    return (
        f'<div class="tl-suspect"><img src="{source}" alt="{pieces.text(f"{photo.name}, labelled {label}")}">'
        f'<div><p class="tl-place">{place} of {len(look.contradicted)}</p>'
        f"<p>{pieces.words(said)}</p>"
        f'<p class="tl-hint">{pieces.text(side)}</p><p class="tl-file">{pieces.text(photo.name)}</p></div></div>'
    )


def _leaving_out(look: Look, indices: Iterable[int], title: str) -> dict[str, Any]:
    """What a section that leaves photos out decides: those about whose label nothing was decided; `act`, `new` and
    `done` of its `Finding`. The title is noted as the reason, so that undoing takes back no more than this.
    """
    photos = [look.base.photos[i] for i in indices]
    why = title.lower()
    new = tuple(decisions.about(photo, EXCLUDE, why) for photo in photos if not look.label_decision(photo))
    made = [decision for photo in photos if (decision := look.label_decision(photo))]
    done = tuple(decision for decision in made if (decision.kind, decision.value) == (EXCLUDE, why))
    what = f"the other {len(new)}" if done else "it" if len(new) == 1 else f"these {len(new)}"
    return {"act": f"Leave {what} out" if new else "", "new": new, "done": done}


def _unreadable(look: Look) -> Finding | None:
    from tlapp import audit

    files = audit.unreadable(look.base)
    if not files:
        return None
    listed = "".join(f"<li><code>{pieces.text(s.name)}</code> {pieces.words(s.reason)}</li>" for s in files[:MOST])
    said = f"{pieces.count(len(files), 'file')} without a photo that can be used. They are left out already."
    return Finding("Unreadable files", said, f'<ul class="tl-list">{listed}</ul>{_more(len(files), MOST)}')


def _copies(look: Look) -> Finding | None:
    from tlapp import audit

    at = {photo.name: i for i, photo in enumerate(look.base.photos)}
    copies = {at[name]: others for name, others in audit.exact(look.base).items() if name in at}
    if not copies:
        return None
    n = sum(map(len, copies.values()))
    said = (
        f"{pieces.count(n, 'file')} with the very bytes of another: left out already. Of each photo one file is used."
    )
    shown = "".join(_copied(look, i, copies[i]) for i in list(copies)[:MOST])
    return Finding("Exact copies", said, f'<div class="tl-found">{shown}</div>{_more(len(copies), MOST)}')


def _copied(look: Look, index: int, others: Sequence[str]) -> str:
    name = look.base.photos[index].name
    what = f"{name}, also {', '.join(others)}"
    caption = f'<span title="{pieces.text(what)}">{pieces.count(1 + len(others), "file")}</span>'
    return f'<div class="tl-one">{pieces.picture(shelf.thumbnail(look.base, index, SIDE), what, caption)}</div>'


def _near(look: Look, report: Report) -> Finding | None:
    groups = sorted(report.near, key=len, reverse=True)
    if not groups:
        return None
    left = [[i for i in members if not look.is_out(i)] for members in groups]
    mixed = sum(len({look.label_of(i) for i in members}) > 1 for members in left)
    out = []
    for members in groups:
        first: set[str] = set()
        for i in sorted(members, key=lambda i: (look.is_out(i), look.base.photos[i].side != "test")):
            if look.label_of(i) in first:
                out.append(i)
            first.add(look.label_of(i))
    said = f"{pieces.count(len(groups), 'group')} of photos that show almost the same. They count several times over."
    if mixed:
        said += (
            f" {pieces.count(mixed, 'group')} {'holds' if mixed == 1 else 'hold'} photos of more than one class, of "
            "which one label is probably wrong; of these, one of each class stays."
        )
    title = "Near copies"
    return Finding(title, said, _groups(look, groups), **_leaving_out(look, out, title))


def _leaks(look: Look, report: Report) -> Finding | None:
    everything, title = frozenset(range(len(look.base.photos))), "Copies among the test photos"
    if look.given:
        tests = {i for i, photo in enumerate(look.base.photos) if photo.side == "test"}
        torn = _torn(look, report, everything, tests)
        if not torn:
            return None
        said = f"{_groups_stand(len(torn))} Your folders say which are test photos."
        out = [i for members in torn for i in members if i not in tests]
        return Finding(title, said, _groups(look, torn), **_leaving_out(look, out, title))
    put = {d.photo or d.file: d for d in look.noted if d.kind == TOGETHER}
    new: list[Decision] = []
    done: list[Decision] = []
    for members in report.near:
        about = [decisions.about(look.base.photos[i], TOGETHER) for i in members]
        standing = [put[d.photo] for d in about if d.photo in put]
        name = standing[0].value if standing else f"{BY_SECTION}{about[0].photo}"
        new += [dataclasses.replace(d, value=name) for d in about if d.photo not in put]
        done += [d for d in standing if d.value.startswith(BY_SECTION)]
    torn = _torn(look, report, frozenset(look.kept), look.tested)
    before = torn or _torn(look, report, everything, _drawn(look)) or (list(report.near) if done else [])
    if not before:
        return None
    if torn:
        said = _groups_stand(len(torn))
        if not new:
            said += " Their classes are too small to keep them on one side, or you put them into several groups."
    elif done and not new:
        said = "All near copies are kept on one side: a test photo has no copy to learn from."
    else:
        said = "None is on both sides any more, as the photos now stand."
    act = "Keep near copies on one side" if new else ""
    return Finding(title, said, _groups(look, before), act, tuple(new), tuple(done))


def _groups_stand(n: int) -> str:
    what = "group of near copies, or of one burst, has" if n == 1 else "groups of near copies, or of one burst, have"
    return (
        f"{n} {what} members both among the test photos and among those that the network learns from. The score then "
        "rewards memory."
    )


def _drawn(look: Look) -> frozenset[int]:
    try:
        return frozenset(look.base.split(look.share / 100, Plan.validation_fraction, look.seed, look.by).test.tolist())
    except DataError:
        return frozenset()


def _torn(look: Look, report: Report, kept: frozenset[int], tests: Iterable[int]) -> list[tuple[int, ...]]:
    """Groups on both sides, of those photos that are kept."""
    from tlapp import audit

    tested, none = frozenset(tests), np.arange(0)
    found = []
    for members in audit.leaks(look.base, report, Split(none, none, np.array(sorted(tested), dtype=np.int64))):
        left = tuple(i for i in members if i in kept)
        if 0 < len(tested.intersection(left)) < len(left):
            found.append(left)
    return found


def _out(look: Look, indices: Sequence[int], title: str, why: str) -> Finding | None:
    if not indices:
        return None
    said = f"{pieces.count(len(indices), 'photo')}, {why}"
    return Finding(title, said, _photos(look, indices), **_leaving_out(look, indices, title))


def _cropped(look: Look, report: Report) -> Finding | None:
    cut = report.flaws.cropped
    if not cut:
        return None
    crop = catalog.get(catalog.INCLUDED).crop
    said = (
        f"The network looks at squares ({crop} x {crop} pixels), so the ends of "
        f"{pieces.count(len(cut), 'long photo')} are cut off, shaded here. If what matters is in there, show all of it "
        "with grey bars; “How a photo fills the square” in 2 Train says the same."
    )
    shown = "".join(_long(look, i, lost) for i, lost in cut[:MOST])
    return Finding("Ends cut off", said, f'<div class="tl-longs">{shown}</div>{_more(len(cut), MOST)}')


def _long(look: Look, index: int, lost: float) -> str:
    photo = look.base.photos[index]
    way = "to right" if photo.width > photo.height else "to bottom"
    what = f"{look.base.classes[photo.label]}: {photo.name}, {pieces.percent(lost)} cut off"
    return (
        f'<figure class="tl-long" style="--cut:{50 * lost:.1f}%;--way:{way}">'
        f'<img src="{shelf.whole(look.base, index, 240)}" alt="{pieces.text(what)}"></figure>'
    )


def _shortcuts(look: Look, report: Report) -> Finding | None:
    if not report.shortcuts:
        return None
    from tlapp.shortcuts import CHANCE

    told = [
        f"`{s.class_name}` are told apart by {s.feature} alone: {evaluate.brief(s.accuracy, s.n, (s.low, s.high))}, "
        f"where guessing gives {pieces.percent(CHANCE)}."
        for s in report.shortcuts[:MOST]
    ]
    rows = "".join(f"<li>{pieces.words(sentence)}</li>" for sentence in told)
    said = (
        "A network may learn these instead of what the photos show, and fail on photos taken elsewhere. Take photos of "
        "all classes in the same way: same camera, place, light and format. Test on photos from somewhere else."
    )
    named = {s.class_name for s in report.shortcuts}
    by_class = [[i for i, p in enumerate(look.base.photos) if look.base.classes[p.label] == name]
                for name in look.base.classes if name in named or len(look.base.classes) == 2]  # fmt: skip
    some = _groups(look, [members[:4] for members in by_class[:3]])
    return Finding("Shortcuts", said, f'<ul class="tl-list">{rows}</ul>{_more(len(report.shortcuts), MOST)}{some}')


def _groups(look: Look, groups: Sequence[Sequence[int]]) -> str:
    """Groups of thumbnails, as many as `MOST` photos make."""
    shown, left, hidden = "", MOST, 0
    for members in groups:
        if left < 2:
            hidden += 1
            continue
        some = members[: min(left, 6)]
        left -= len(some)
        more = f'<span class="tl-hint">and {len(members) - len(some)} more</span>' if len(some) < len(members) else ""
        shown += f'<div class="tl-group">{"".join(_photo(look, i) for i in some)}{more}</div>'
    rest = f'<p class="tl-hint">and {pieces.count(hidden, "more group")}</p>' if hidden else ""
    return f'<div class="tl-groups">{shown}</div>{rest}'


def _photos(look: Look, indices: Sequence[int]) -> str:
    shown = "".join(_photo(look, i) for i in indices[:MOST])
    return f'<div class="tl-found">{shown}</div>{_more(len(indices), MOST)}'


def _more(n: int, most: int) -> str:
    return f'<p class="tl-hint">and {n - most} more</p>' if n > most else ""


def _photo(look: Look, index: int) -> str:
    photo = look.base.photos[index]
    label, decided, is_out = look.base.classes[photo.label], look.label_decision(photo), look.is_out(index)
    now = decided.value if decided and decided.kind == RELABEL else label
    state = "left out" if is_out else f"{now}, test" if index in look.tested else now
    picture = pieces.picture(
        shelf.thumbnail(look.base, index, SIDE), f"{label}: {photo.name}", f'<span title="{pieces.text(photo.name)}">'
        f"{pieces.text(state)}</span>"
    )  # fmt: skip
    return f'<div class="tl-one{" tl-out" if is_out else ""}">{picture}</div>'
