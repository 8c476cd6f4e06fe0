"""How fast work goes: throughput, failures and utilisation of the last minutes, and what needs attention."""
