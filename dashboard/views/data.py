"""*Data*: what the ratings look like, and the catalogue."""

import streamlit as st

from dashboard.catalogue import Catalogue
from dashboard.parts.found import counted, search_field
from dashboard.parts.gallery import gallery
from dashboard.parts.notice import problems
from dashboard.parts.words import caption, figures, heading, title
from dashboard.settings import settings
from dashboard.shared import catalogue


def show() -> None:
    """Draws the page."""
    st.html(title("Data", f"What the ratings of {settings().dataset} are like, and the movies that they are about."))
    movies = catalogue()
    ratings = int(movies.frame["ratings"].sum())
    st.html(
        figures(
            [
                ("ratings", f"{ratings:,}"),
                ("users", f"{len(movies.users):,}"),
                ("movies", f"{len(movies.frame):,}"),
                (
                    "of all user-movie pairs rated",
                    f"{100 * ratings / max(1, len(movies.users) * len(movies.frame)):.1f} %",
                ),
            ]
        )
    )
    with problems():
        gallery("data")
    st.html(heading("The catalogue"))
    _table(movies)


@st.fragment
def _table(movies: Catalogue) -> None:
    words = search_field("Find in the catalogue", "data_search", "Part of a title, then Enter")
    found = movies.search(words)
    frame = movies.frame.loc[found, ["title", "year", "genres", "ratings"]].reset_index()
    frame["year"] = frame["year"].where(frame["year"] > 0)
    st.dataframe(
        frame.assign(genres=[list(one) for one in frame["genres"]]),
        hide_index=True,
        column_config={
            "movieId": st.column_config.NumberColumn("Movie id", format="%d", width="small"),
            "title": st.column_config.TextColumn("Title", width="large"),
            "year": st.column_config.NumberColumn("Year", format="%d", width="small"),
            "genres": st.column_config.ListColumn("Genres", width="medium"),
            "ratings": st.column_config.NumberColumn("Ratings", format="localized", width="small"),
        },
    )
    st.html(caption(f"{counted(len(found), 'movie')}, the most rated first."))
