"""strengths -> pairs"""
