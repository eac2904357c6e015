"""The kinds of arms that run.json may name: what a report makes of each. Read by plans too, so nothing is imported."""

TEACHER, PLAIN, EQUAL_COMPUTE, METHOD, OURS, FLOOR = "teacher", "plain", "equal_compute", "method", "ours", "floor"
KINDS = (TEACHER, PLAIN, EQUAL_COMPUTE, METHOD, OURS, FLOOR)
UNTESTED = (TEACHER, FLOOR)  # Shown with their gain, but no part of the tests: nobody asks whether they win.
DISTILLED = (METHOD, OURS)  # Of these the teacher counts: they are compared only where they hang from the same one.
