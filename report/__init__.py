"""Pictures of a run and the report made of them: for notebooks, `report.html` and the page alike."""
