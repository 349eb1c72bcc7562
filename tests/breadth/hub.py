"""Networks of transformers with random weights, two layers each: nothing is downloaded."""

from __future__ import annotations

import torch


def _bert():
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(num_hidden_layers=2, hidden_size=128, num_attention_heads=2, intermediate_size=512))


def _ids(sequence):
    return torch.randint(0, 1000, (1, sequence))


def bert(sequence=64):
    return _bert(), _ids(sequence)


def bert_by_keyword():
    return _bert(), {"input_ids": _ids(64), "attention_mask": torch.ones(1, 64, dtype=torch.long)}


def bert_by_position():
    return _bert(), (_ids(64), torch.ones(1, 64, dtype=torch.long))


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=128, n_head=2, vocab_size=1000, n_positions=128)), _ids(32)


def vit():
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(num_hidden_layers=2, hidden_size=192, num_attention_heads=3, intermediate_size=768)
    return ViTModel(config), torch.randn(1, 3, 224, 224)


def whisper():
    from transformers import WhisperConfig, WhisperModel

    config = WhisperConfig(
        d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=128, decoder_ffn_dim=128, vocab_size=1000, max_source_positions=50,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return WhisperModel(config), {"input_features": torch.randn(1, 80, 100), "decoder_input_ids": _ids(8)}


def t5():
    from transformers import T5Config, T5Model

    config = T5Config(vocab_size=1000, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4)
    return T5Model(config), {"input_ids": _ids(16), "decoder_input_ids": _ids(8)}


def clip():
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = CLIPTextConfig(vocab_size=1000, max_position_embeddings=32, eos_token_id=999, **sizes)
    vision = CLIPVisionConfig(image_size=64, patch_size=16, **sizes)
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=32)
    return CLIPModel(config), {"input_ids": _ids(16), "pixel_values": torch.randn(1, 3, 64, 64)}


def distilbert():
    from transformers import DistilBertConfig, DistilBertModel

    config = DistilBertConfig(n_layers=2, dim=128, n_heads=2, hidden_dim=256, vocab_size=1000)
    return DistilBertModel(config), {"input_ids": _ids(32), "attention_mask": torch.ones(1, 32, dtype=torch.long)}


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        num_hidden_layers=1, hidden_size=128, num_attention_heads=4, num_key_value_heads=2, intermediate_size=256,
        vocab_size=1000,
    )  # fmt: skip
    return LlamaForCausalLM(config), _ids(24)


def wav2vec2():
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    config = Wav2Vec2Config(
        num_hidden_layers=2, hidden_size=64, num_attention_heads=2, intermediate_size=128, conv_dim=(32,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    return Wav2Vec2ForCTC(config), torch.randn(1, 8000)


def detr():
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[32, 64, 128, 256], embedding_size=16, out_features=["stage4"]
    )
    config = DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone, d_model=64,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=128,
        decoder_ffn_dim=128, num_queries=10,
    )  # fmt: skip
    return DetrForObjectDetection(config), torch.randn(1, 3, 128, 128)
