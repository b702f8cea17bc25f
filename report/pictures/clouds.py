"""Word clouds: of the genres, and of the words in the movies' titles."""

import re
from collections import Counter
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from PIL import ImageFont
from wordcloud import STOPWORDS, WordCloud

from core.columns import TITLE
from core.run_folder import DEFAULT_SEED
from report.files import RunFiles
from report.picture import DATA, Picture, add
from report.style import ON_BOTH, WIDTH, figure, listed, literal

PIXELS = 3  # of the layout, per point of the picture
SMALLEST, LARGEST = 11, 46  # points
MOST_WORDS = 70
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:['\u2019][^\W\d_]+)*(?!\w)")  # letters alone: not the th of 4th
# Articles and the like in the languages that MovieLens' titles have besides English.
SMALL_WORDS = {"al", "au", "aux", "das", "de", "dei", "del", "della", "den", "der", "des", "di", "die", "du", "ein"}
SMALL_WORDS |= {"el", "en", "et", "il", "la", "las", "le", "les", "los", "lo", "un", "una", "und", "une", "vs", "y"}
FOR_SEARCHES = {"aka", "ii", "iii", "iv", "part", "vol"}  # what tells titles apart without saying anything
LEFT_OUT = {word.casefold() for word in STOPWORDS} | SMALL_WORDS | FOR_SEARCHES


def genres(files: RunFiles) -> dict[str, int]:
    """How many movies have each genre, the most frequent first."""
    found = files.genres.sum().sort_values(ascending=False, kind="stable")
    return {name: int(count) for name, count in found.items()}


def words(files: RunFiles) -> dict[str, int]:
    """In how many movies' titles each word stands, the most frequent first.

    Upper and lower case are one word, which is shown as it is written most often. Numbers, single letters and words
    that say nothing, such as articles, are left out.
    """
    titles, written = Counter[str](), dict[str, Counter[str]]()
    for title in files.movies[TITLE]:
        spelling = {word.casefold(): word for word in WORD.findall(title)}
        kept = [key for key in spelling if len(key) > 1 and key not in LEFT_OUT]
        titles.update(kept)
        for key in kept:
            written.setdefault(key, Counter())[spelling[key]] += 1
    return {written[key].most_common(1)[0][0]: count for key, count in titles.most_common()}


def draw(counts: dict[str, int], height: float) -> Figure:
    """The words, the larger the more frequent they are; their places and colours mean nothing.

    Args:
        height: in inches.
    """
    made, (axis,) = figure(height=height)
    made.set_layout_engine("none")
    axis.set_position((0, 0, 1, 1))
    axis.set_axis_off()
    axis.set(xlim=(0, 72 * WIDTH), ylim=(72 * height, 0))  # in points, from the top as pixels are counted
    most = max(counts.values())
    sizes = {word: SMALLEST + (LARGEST - SMALLEST) * count / most for word, count in counts.items()}
    cloud = WordCloud(
        font_path=str(FONT),
        width=round(72 * WIDTH * PIXELS),
        height=round(72 * height * PIXELS),
        min_font_size=(SMALLEST - 1) * PIXELS,
        max_font_size=LARGEST * PIXELS,
        max_words=MOST_WORDS,
        margin=4 * PIXELS,
        prefer_horizontal=1,
        relative_scaling=1,
        random_state=DEFAULT_SEED,
    ).generate_from_frequencies(sizes)
    for place, ((word, _), size, (top, left), _, _) in enumerate(cloud.layout_):
        ink_left, ink_top, _, _ = ImageFont.truetype(str(FONT), size).getbbox(word, anchor="ls")
        axis.text(
            (left - ink_left) / PIXELS,
            (top - ink_top) / PIXELS,
            word,
            fontsize=size / PIXELS,
            color=ON_BOTH[place % len(ON_BOTH)],
        )
    literal(axis.texts)
    return made


def text_of(counts: dict[str, int], where: str) -> str:
    """The words that are largest, with their numbers."""
    first = [f"{word} ({count:,})" for word, count in list(counts.items())[:3]]
    return f"{where}; the largest: {listed(first)}. Places and colours mean nothing."


def text_of_genres(files: RunFiles) -> str:
    return text_of(genres(files), "The more movies a genre has, the larger it is")


def text_of_words(files: RunFiles) -> str:
    return text_of(words(files), "The more titles a word stands in, the larger it is")


add(
    Picture(
        name="genre-cloud",
        section=DATA,
        title="Genres as a word cloud",
        draw=lambda files: draw(genres(files), 2.1),
        text=text_of_genres,
        lacking=lambda files: "" if genres(files) else "No movie of this dataset has a genre.",
    ),
    23,
)
add(
    Picture(
        name="title-cloud",
        section=DATA,
        title="Words of the titles",
        draw=lambda files: draw(words(files), 2.8),
        text=text_of_words,
        lacking=lambda files: "" if words(files) else "No title of this dataset has a word.",
    ),
    24,
)
