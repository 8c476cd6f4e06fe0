"""What the results of a batch are as a whole: pace over time, distributions and failures by code, at a bounded cost."""
