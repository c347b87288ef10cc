"""completions -> votes, ratings, rankings"""
