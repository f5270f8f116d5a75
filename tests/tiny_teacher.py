"""A causal language model of a few thousand random weights, with a chat template."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def make_tokenizer(template=TEMPLATE):
    characters = ["</s>", *(chr(code) for code in range(32, 127)), "Ġ", "␟"]
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(characters)}, [], unk_token="␟"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", chat_template=template
    )


def make_model(attention):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=98,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.6,
        attn_implementation=attention,
    )
    return LlamaForCausalLM(config).eval()
