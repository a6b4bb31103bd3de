"""How well a model agrees with masks that people made: results, statistics, tables, report, click curves."""
