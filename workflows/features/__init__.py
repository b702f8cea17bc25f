"""Tables to features: NVTabular's workflows, vocabularies, side tables and the Merlin schema."""
