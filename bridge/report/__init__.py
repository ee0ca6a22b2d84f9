"""`dspy-bridge report`: a run, as `run_get` answers it, as one HTML page for a person.

Law: the page needs nothing but itself. No script, no outside address, nothing loaded; what came
from the run is text and never markup. Whatever the run lacks, the page leaves out.
"""
