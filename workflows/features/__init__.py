"""Tables to features: NVTabular's workflows, vocabularies, side tables and the Merlin schema."""

import core.gpu  # noqa: F401  before Merlin
