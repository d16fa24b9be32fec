#!/usr/bin/env python3
"""Perplexity and divergence of a text as Transformers computes them: what `crates/apr/tests/measure.rs` expects.

usage: eval_reference.py MODEL_DIR GGUF
MODEL_DIR is a Transformers directory with a golden.json, GGUF the same model quantised; gguf-py decodes its tensors.
Windows as in Transformers' guide to perplexity of fixed-length models: labels before the new tokens are -100.
"""
import json, sys
from pathlib import Path
import gguf, torch
from transformers import AutoModelForCausalLM

NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}

def hf_name(name):
    if name.startswith("blk."):
        _, layer, part, kind = name.split(".")
        return f"model.layers.{layer}.{NAMES[part]}.{kind}"
    return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}[name]

@torch.no_grad()
def main():
    torch.set_num_threads(1)
    directory = Path(sys.argv[1])
    load = lambda: AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    model, other = load(), load()
    state = {hf_name(t.name): torch.from_numpy(gguf.dequantize(t.data, t.tensor_type).reshape(t.shape[::-1].tolist()).copy()) for t in gguf.GGUFReader(sys.argv[2]).tensors}
    missing, unexpected = other.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    ids = torch.tensor([next(p for p in json.loads((directory / "golden.json").read_text())["prompts"] if p["id"] == "long")["ids"]])

    for window, stride in ((64, 32), (64, 64), (1024, 1024)):
        total, count, end_before = 0.0, 0, 0
        for begin in range(0, ids.shape[1], stride):
            end = min(begin + window, ids.shape[1])
            part, labels = ids[:, begin:end], ids[:, begin:end].clone()
            labels[:, : -(end - end_before)] = -100
            n = int((labels[:, 1:] != -100).sum())
            if n:
                total += float(model(part, labels=labels).loss) * n
                count += n
            end_before = end
            if end == ids.shape[1]:
                break
        print(f"window {window} stride {stride}: {count} scored, mean nll {total / count:.6f}")

    whole = lambda m: m(ids).logits[0, :-1].double().log_softmax(-1)
    p, q = whole(model), whole(other)
    kl = (p.exp() * (p - q)).sum(-1)
    target = ids[0, 1:, None]
    delta = (p.gather(1, target) - q.gather(1, target))[:, 0]
    rank = kl.sort().values[-(-99 * len(kl) // 100) - 1]
    same = int((p.argmax(-1) == q.argmax(-1)).sum())
    print(f"quantised: mean nll {float(-q.gather(1, target).mean()):.6f}; KL mean {float(kl.mean()):.6e} median {float(kl.median()):.6e} 99% {float(rank):.6e} max {float(kl.max()):.6e}; "
          f"same top {same} of {len(kl)}; delta mean {float(delta.mean()):.6e} rms {float(delta.square().mean().sqrt()):.6e}")

main()
