"""The votes of the annotators who are nearest to each other, of each two completions."""

from prefdata.select._similar import similar
from prefdata.tables import SIDES, Votes


def similar_votes(votes: Votes, *, keep: int = 3, max_spread: float = 1.0) -> Votes:
    """Keep, of each two completions and criterion, the votes of the `keep` most similar annotators.

    The set whose greatest and smallest preference are least apart is kept; of such sets that of the
    least variance, then the one whose mean is nearest to the median of all, then the one nearer to
    0. Of fewer annotators all are kept. Unscored votes are not. Agreement among what is left says
    how it was chosen, not how reliable the annotators are: measure it before.

    Options:
    - `keep`: how many annotators, at least 2.
    - `max_spread`: two completions whose kept votes are farther apart than this have none left, in
      [0, 1]; 1 leaves all. Of votes in seven degrees 1/3 is two degrees, HelpSteer2's limit.

    Source: Wang et al. (2024), HelpSteer2-Preference: Complementing Ratings with Preferences (the
    three most similar of up to five; ties between sets are decided here).
    """
    item = [*SIDES, "criterion"]
    where = "select.similar_votes"
    scored = votes.drop_nulls("preference")
    kept = similar(scored, item, "preference", keep, max_spread, where)
    return Votes(scored.join(kept, on=[*item, "annotator"], how="semi", maintain_order="left"))
