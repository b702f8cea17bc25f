"""Every column name, once.

The files and NVTabular's schema use MovieLens' own names (`userId`, `movieId`). Everything after the workflow uses
`user_id`, `movie_id` and their indices.
"""

# MovieLens' own, in the canonical tables
RAW_USER = "userId"
RAW_MOVIE = "movieId"
RATING = "rating"
TIMESTAMP = "timestamp"
TITLE = "title"
YEAR = "year"
GENRES = "genres"
GENDER = "gender"
AGE = "age"
OCCUPATION = "occupation"
ORIGINAL_ID = "id"  # of movies and users, where the canonical tables number them

RATINGS_COLUMNS = (RAW_USER, RAW_MOVIE, RATING, TIMESTAMP)
MOVIES_COLUMNS = (RAW_MOVIE, TITLE, YEAR, GENRES)

# The workflow's
USER_ID = "user_id"
MOVIE_ID = "movie_id"
USER_INDEX = "user_index"
MOVIE_INDEX = "movie_index"
LABEL = "label"
FOLD = "fold"
LATER = "later"  # how many ratings, of any split, the user gave after this one
NOT_BEFORE = "not_before"  # how many of the user's other ratings, of any split, do not count as given before this one
CONTINUOUS = "continuous"
NEGATIVES = "negatives"
HISTORY = "history"  # the movies that the user rated before
HISTORY_STARS = "history_stars"
HISTORY_OWNER = "history_owner"  # which history a sample has, where several share one
