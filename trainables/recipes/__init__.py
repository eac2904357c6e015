"""Recipes: which stages a method has, and how flat parameters become their specs; one file each.

A parameter named like a spec field (`learning_rate`) goes to every stage that has the field; `teacher.learning_rate`
goes to the teacher alone. Nested groups keep their name (`horkd.alpha`), which may be shortened where nothing else is
called so (`alpha`).
"""

from __future__ import annotations

from trainables.recipes.horkd import HORKD_ASSISTANT
from trainables.recipes.recipe import Recipe
from trainables.recipes.step import Step

__all__ = ["HORKD_ASSISTANT", "Recipe", "Step"]
