"""Transformers in this process: what a model thinks of texts that are given.

`logprobs` and `choice` are those of a causal model, `hidden` its last states, `reward` the one
number of a sequence classifier, `embedding` a vector of sentence-transformers (mean pooling where
the model has no pooling of its own), `tokens` a count. It writes no text: `vllm` and `embedded` do.

- `logprobs`: of the completion's tokens, given the messages in the model's chat template (see
  `prefdata.models.template`); `number` is their sum. The option `end` also counts the token that
  ends the completion's turn (true) or all that the template writes after it ("template"). `ids`
  gives the ids of all tokens that were read, `top` so many of the likeliest tokens in each place
  and how likely all others are together.
- `hidden`: the states that predict the completion's tokens, from the last token before it to its
  last but one. The option `pool` says what of them: their "mean", their "sum" or the "last" one;
  `number` is how many there are. `layer` says whose: -1, the last, to 0, the embeddings, counted
  as transformers does; `norm`, whether behind the model's final norm, by default those of the last
  layer only. `end` as before.
- `choice`: as in every client, from the likeliest tokens of an unconstrained next step.
- `reward`: a model with a chat template reads messages and completion as one conversation. One
  without (a cross-encoder) reads two texts: the messages and the completion or, where no completion
  is given, all messages but the last and the last. So a ranker of pairs, whose number says by how
  much the first candidate is better, is given the prompt and the candidates as messages.
  Several messages on one side are joined by the tokenizer's separator.
- `embedding`: the contents of the messages, joined by blank lines. What is longer than the model
  reads is cut off, as its makers do. The option `dimensions` keeps the first ones, at the length
  that the vector had.
- `bertscore`: of a sentence-transformer, the `number` in [-1, 1] that says how alike the messages
  and the completion are, by the states of their tokens.
- `tokens`: the `number` of tokens of the completion or, where none is given, of the messages; with
  the option `ids`, the ids of all that were read, those of the completion being the last.

`model` is a name on the model hub or a folder of weights. `engine` takes `dtype` (`float32`, which
is the reference and the default, `bfloat16` or `float16`), `device` (by default a GPU where there
is one), `device_map`, `attn_implementation`, `trust_remote_code`, `max_model_len` (tokens of one
text; longer ones are answered with a reason), `max_num_batched_tokens` (of one batch, padding
counted), `threads` and `use_safetensors` (false: pickled weights are read too, which may run code).
The option `chat_template_kwargs` goes to the chat template.

All that one table asks of a causal model about one text is answered from one pass: `tokens_cached`
of a response are the tokens that were read for another one. Texts of about one length are read
together, padded on the right: in float32 the answers are those of one text at a time to 1e-4.

Read `client` first (which head answers what), then `loading`, `texts` (tokens and batches),
`transformer` (what all kinds do) and the heads: `likelihoods` with `states`, `rewarder`,
`embedder`, `counter`.
"""

from prefdata.models.local.client import LocalClient

__all__ = ["LocalClient"]
