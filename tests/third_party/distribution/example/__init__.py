"""A third party's distribution: one stage, one trainer and one tracker."""
