"""Questions about self-supervised learning that views of known mutual information answer: one command each.

    good_views       what makes for good views (Tian et al. 2020)
    tighter_bounds   is a tighter bound a better representation (Tschannen et al. 2020)
    augmentations    what does each augmentation destroy

`python -m ssl_mi.studies.<name>` trains, draws a picture, and says PASS or FAIL; study.py is what they have in common.
"""
