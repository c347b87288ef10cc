"""What a recipe comes to before anything is asked: `plan` resolves every name and `options` reads
every option, `rehearsal` tries the stages without rows and `forecast` with replies of `invention`;
`expectation` says what tokens and cost that makes; `refusals` what keeps a build from beginning."""
