"""What the notebooks call: pictures and tables of a run, rows step by step through NVTabular, and a server to ask."""
