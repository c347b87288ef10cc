"""votes, ratings, rankings -> strengths, scores"""
