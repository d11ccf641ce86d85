"""The reference pages, made from the code: `python -m deploy.reference` writes docs/reference (`make docs`).

What each part does: `survey` imports our packages in a process of its own and states `facts`; `processes` tells by
the imports which program has what; `source` reads the comments that only the source has; `pages` and `lists` write.
"""
