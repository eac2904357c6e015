"""From records to answers: statistics, tables, figures, report. Nothing here trains or imports torch."""
