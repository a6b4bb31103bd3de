"""Agreement of a model with masks made by people: results, statistics, tables, report, click curves."""
