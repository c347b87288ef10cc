"""`prefdata doctor`: whether a build can run here, and what to do where it cannot."""

from prefdata.doctor.examination import Examination, examine

__all__ = ["Examination", "examine"]
