"""A file per kind of picture. Each adds its own to `report.picture.PICTURES`; see there."""
