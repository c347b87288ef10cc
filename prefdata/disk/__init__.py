"""Tables that are too large for memory: `shards` of them, parted by prompt, the loop over these in
`streaming`, and the bins of `spill`, by which rows are put in another order."""
