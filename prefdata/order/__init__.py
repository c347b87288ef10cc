"""pairs -> curricula and weights"""
