"""Bad input to every verb: one sentence that names the file, exit status 2, and nothing written.

Generic: each option of a verb that names an input file is given, in its turn, a missing file, a folder, an empty file,
and a file of noise, with files of the right kind or plausible names in all other places.
"""
