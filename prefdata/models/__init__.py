"""The only code that talks to a model.

`edge` is what a build calls with requests; read it first. Below it:

- what a recipe says of a model: `spec`, `prices`, `weights` (where they lie, and their digest),
  `packages` (what its client needs);
- who answers: `clients` opens one of `openai`, `batch`, `vllm`, `embedded`, `local`, `scripted`,
  each a `client.Client`; `stall` names what keeps one waiting; `template` is how a conversation
  becomes tokens, `serving` is `vllm serve`;
- what `openai` and `batch` stand on: `chat` (the words of the protocol), `endpoint` (one address,
  one key), `lane` (how fast it may be asked), `pool` (several of them), `background` (an event
  loop); of batches alone `provider`, `batch_lines` and `journal` (those under way);
- what is kept: `ledger`, of `segment`s with an `index`; `upkeep`, `compact` and `records` (export)
  look after it;
- money: `account` (what was done), `costs`, `purse` (what may be spent); `tokens` and `experience`
  say beforehand how many tokens there will be.
"""
