"""Numbers of the evaluation that several rooms share."""

CANDIDATE_NEGATIVES = 99  # unseen movies that a held-out movie is ranked among
K = 10  # of HR@K, NDCG@K, MRR@K, and of the recall of the first stage
