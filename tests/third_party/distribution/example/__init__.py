"""A third party's distribution: one stage and one trainer."""
