"""Random OWL-ViT and OWLv2 checkpoints as the hub lays them out, with transformers' outputs.

    pip install -r tools/requirements-owl.txt
    python tools/export_owl.py tests/fixtures/detectors

writes the tiny ones of tests/fixtures/detectors. Weights are rounded to 16 bits before the reference runs.
tools/check_full_size.py makes the large ones from the same functions.
"""

import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import Owlv2Config, Owlv2ForObjectDetection, OwlViTConfig, OwlViTForObjectDetection
from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil
from transformers.models.owlvit.image_processing_pil_owlvit import OwlViTImageProcessorPil
from transformers.models.owlvit.modeling_owlvit import box_iou

from export_detr import contiguous, noise
from export_parity import clip_tokenizer, tower

THINGS = ["cat", "red circle", "two dogs", "left"]
PROMPT = "a photo of a "
CONTEXT = 16
# Name, number of the picture that is looked at, of the example, and a box in it, pixels.
LIKE = [("like-b", 0, 1, None), ("like-a", 1, 0, None), ("like-part", 0, 1, [20, 90, 70, 150])]


def spread(model, seed):
    """Weights that keep the size of what goes through them, so that patches and texts differ."""
    g = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        rand = torch.randn(value.shape, generator=g)
        if "norm" in name:
            value.data = 0.2 * rand + (1 if name.endswith("weight") else 0)
        elif name.endswith("logit_scale") and value.dim() == 0:
            value.data.fill_(2.9)
        elif name.startswith("class_head.logit_"):
            # Scores that are neither all 0 nor all 1, whatever the texts.
            at = 4.0 if "scale" in name else 0.2
            value.data = torch.full_like(value, at) if name.endswith("bias") else 0.3 * rand * value.numel() ** -0.5
        elif name.endswith("bias"):
            value.data = 0.2 * rand
        elif "embedding" in name and "patch" not in name:
            value.data = 0.7 * rand
        else:
            value.data = rand * 1.2 * value[0].numel() ** -0.5
        value.data = value.data.half().float()


def detections(out, prompts, picture, processor):
    """Rows x0, y0, x1, y1, score, class of the reference's post-processing, inside the picture, best first."""
    found = processor.post_process_object_detection(out, 0.0, torch.tensor([picture.size[::-1]]))[0]
    boxes = found["boxes"].clone()
    boxes[:, 0::2].clamp_(0, picture.width)
    boxes[:, 1::2].clamp_(0, picture.height)
    rows = [[*box.tolist(), score.item(), label] for box, score, label in
            zip(boxes, found["scores"], found["labels"].tolist()) if (box[2] - box[0]) * (box[3] - box[1]) > 0]
    return torch.tensor(sorted(rows, key=lambda row: -row[4])).reshape(-1, 6)


def stages(model, prefix, ids, mask, pixels):
    seen = {}
    hook = lambda name: lambda module, given, out: seen.__setitem__(name, out[0] if isinstance(out, tuple) else out)
    vision = getattr(model, prefix).vision_model
    handles = [vision.embeddings.register_forward_hook(hook("embeddings")),
               vision.pre_layernorm.register_forward_hook(hook("pre_layrnorm"))]
    handles += [layer.register_forward_hook(hook(f"layers.{n}")) for n, layer in enumerate(vision.encoder.layers)]
    out = model(input_ids=ids.repeat(len(pixels), 1), attention_mask=mask.repeat(len(pixels), 1), pixel_values=pixels)
    for handle in handles:
        handle.remove()
    count = len(pixels)
    arrays = {name: value for name, value in seen.items()}
    arrays |= {"image_embeds": out.image_embeds.flatten(1, 2), "class_embeds": out.class_embeds, "logits": out.logits,
               "pred_boxes": out.pred_boxes, "text_embeds": out.text_embeds[0]}
    if prefix == "owlv2":
        arrays["objectness_logits"] = out.objectness_logits
    assert all(len(value) == count for name, value in arrays.items() if name != "text_embeds")
    return arrays, out


def corners(boxes):
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def patch_in(boxes, embeds, target):
    """OWL-ViT's rule of `embed_image_query` with a box, shares of the frame, in the place of the whole picture."""
    fits = box_iou(torch.tensor([target]), corners(boxes))[0][0]
    assert (fits > 0).any()
    near = (fits >= fits.max() * 0.8).nonzero().squeeze(1)
    return near[torch.argmin(torch.einsum("d,id->i", embeds.mean(0), embeds[near]))].item()


def like(model, prefix, pixels, example, processor, picture, target=None):
    """What is like an example, or like the part `target` of it: the patch that stands for it, and what follows."""
    query_map = model.image_embedder(pixel_values=example)[0]
    features = query_map.flatten(1, 2)
    if target is None:
        embeds, patch, _ = model.embed_image_query(features, query_map)
        patch = patch.flatten()[0].item()
        out = model.image_guided_detection(pixel_values=pixels, query_pixel_values=example)
    else:
        raw = model.class_predictor(features)[1]
        patch = patch_in(model.box_predictor(features, query_map)[0], raw[0], target)
        embeds = raw[:, patch:patch + 1]
        image_map = model.image_embedder(pixel_values=pixels)[0]
        seen = image_map.flatten(1, 2)
        logits, class_embeds = model.class_predictor(seen, embeds)
        out = SimpleNamespace(logits=logits, class_embeds=class_embeds, target_pred_boxes=model.box_predictor(seen, image_map))
    arrays = {"query_patch": torch.tensor([float(patch)]), "query_embeds": embeds.flatten() / embeds.norm(),
              "logits": out.logits, "pred_boxes": out.target_pred_boxes}
    if picture:
        best = out.logits.sigmoid().max()
        found = processor.post_process_image_guided_detection(out, 0.0, 0.3, torch.tensor([picture.size[::-1]]))[0]
        boxes = found["boxes"].clone()
        boxes[:, 0::2].clamp_(0, picture.width)
        boxes[:, 1::2].clamp_(0, picture.height)
        # Its scores are shares of the best one, from a tenth of it on.
        rows = torch.cat([boxes, (found["scores"] * 0.9 * (best + 1e-6) + 0.1 * (best + 1e-6))[:, None]], 1)
        rows = rows[(rows[:, 2] - rows[:, 0]) * (rows[:, 3] - rows[:, 1]) > 0]
        arrays["detections"] = rows[rows[:, 4].argsort(descending=True)]
    return arrays


def write(folder, model, prefix, tokenizer, processor, half):
    os.makedirs(folder, exist_ok=True)
    tensors = {name: (value.half() if half else value).contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    config = json.loads(model.config.to_json_string())
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file)
    name = "Owlv2ImageProcessor" if prefix == "owlv2" else "OwlViTImageProcessor"
    settings = {"image_processor_type": name, "do_normalize": True, "do_resize": True, "do_rescale": True,
                "image_mean": list(processor.image_mean), "image_std": list(processor.image_std),
                "resample": 2 if prefix == "owlv2" else 3, "rescale_factor": 1 / 255,
                "size": {"height": processor.size["height"], "width": processor.size["width"]}}
    settings |= {"do_pad": True} if prefix == "owlv2" else {"do_center_crop": False}
    with open(os.path.join(folder, "preprocessor_config.json"), "w") as file:
        json.dump(settings, file)
    tokenizer.save(os.path.join(folder, "tokenizer.json"), pretty=False)


def texts(tokenizer, prompts):
    rows = [tokenizer.encode(prompt).ids for prompt in prompts]
    assert all(len(row) <= CONTEXT for row in rows), [len(row) for row in rows]
    ids = torch.tensor([row + [0] * (CONTEXT - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (CONTEXT - len(row)) for row in rows])
    return ids, mask


def build(prefix, vocabulary, begin, end, text, vision, projection):
    make, kind = (Owlv2Config, Owlv2ForObjectDetection) if prefix == "owlv2" else (OwlViTConfig, OwlViTForObjectDetection)
    config = make(text_config=dict(vocab_size=vocabulary, bos_token_id=begin, eos_token_id=end,
                                   max_position_embeddings=CONTEXT, **text), vision_config=vision, projection_dim=projection)
    return kind(config).eval()


def processor_of(prefix, side):
    kind = Owlv2ImageProcessorPil if prefix == "owlv2" else OwlViTImageProcessorPil
    return kind(size={"height": side, "width": side})


def export(out, name, prefix, seed, pictures, text, vision, projection):
    tokenizer, vocabulary, begin, end = clip_tokenizer()
    model = build(prefix, vocabulary, begin, end, text, vision, projection)
    spread(model, seed)
    processor = processor_of(prefix, vision["image_size"])
    folder = os.path.join(out, name)
    write(folder, model, prefix, tokenizer, processor, True)
    ids, mask = texts(tokenizer, [PROMPT + thing for thing in THINGS])
    pixels = [torch.tensor(np.array(processor(picture, return_tensors="np")["pixel_values"]))[0] for picture in pictures]
    batch, _ = stages(model, prefix, ids, mask, torch.stack(pixels))
    _, single = stages(model, prefix, ids, mask, pixels[0][None])
    arrays = {name: value for name, value in batch.items() if not name.startswith("layers.")}
    last = max(name for name in batch if name.startswith("layers."))
    arrays |= {last: batch[last], "pixel_rows": torch.stack(pixels)[:, :, ::8],
               "detections": detections(single, ids, pictures[0], processor)}
    for kind, at, example, target in LIKE:
        sides = [max(pictures[example].size)] * 2 if prefix == "owlv2" else pictures[example].size
        share = target and [edge / sides[n % 2] for n, edge in enumerate(target)]
        found = like(model, prefix, pixels[at][None], pixels[example][None], processor, pictures[at], share)
        print(name, kind, "patch", int(found["query_patch"]), len(found["detections"]), "boxes, best",
              found["detections"][0, 4].item())
        arrays |= {f"{kind}.{key}": value for key, value in found.items()}
    save_file(contiguous(arrays), os.path.join(folder, "expected.safetensors"))
    rows = arrays["detections"]
    print(name, len(rows), "boxes, scores", rows[:, 4].min().item(), rows[:, 4].max().item(), "classes",
          sorted(set(rows[:, 5].tolist())), "above 0.1:", int((rows[:, 4] > 0.1).sum()))


SIZES = {
    # prefix, text width / heads, vision width / heads / layers, patch, side
    "owlv2-base-patch16-ensemble": ("owlv2", 512, 8, 768, 12, 12, 16, 960),
    "owlv2-large-patch14-ensemble": ("owlv2", 768, 12, 1024, 16, 24, 14, 1008),
    "owlvit-base-patch32": ("owlvit", 512, 8, 768, 12, 12, 32, 768),
    "owlvit-base-patch16": ("owlvit", 512, 8, 768, 12, 12, 16, 768),
    "owlvit-large-patch14": ("owlvit", 768, 12, 1024, 16, 24, 14, 840),
}


def full_size(arch, folder, seed):
    """A checkpoint of full size with random weights and the tiny tokenizer, and the reference's outputs for two pictures."""
    prefix, words, heads, width, looks, layers, patch, side = SIZES[arch]
    tokenizer, vocabulary, begin, end = clip_tokenizer()
    model = build(prefix, vocabulary, begin, end, tower(words, heads, 12, 4 * words),
                  tower(width, looks, layers, 4 * width, image_size=side, patch_size=patch), words)
    spread(model, seed)
    processor = processor_of(prefix, side)
    write(folder, model, prefix, tokenizer, processor, False)
    ids, mask = texts(tokenizer, [PROMPT + thing for thing in THINGS])
    arrays, inputs = {}, []
    for n, (w, h) in enumerate(((640, 480), (700, 1500))):
        picture = noise(seed + n, w, h)
        picture.save(os.path.join(folder, f"picture-{n}.png"))
        pixels = torch.tensor(np.array(processor(picture, return_tensors="np")["pixel_values"]))
        own, out = stages(model, prefix, ids, mask, pixels)
        keep = ("image_embeds", "class_embeds", "logits", "pred_boxes", "objectness_logits", "text_embeds")
        arrays |= {f"picture-{n}.{name}": value for name, value in own.items() if name in keep}
        print(arch, "picture", n, "logits", out.logits.min().item(), out.logits.max().item())
        inputs.append(pixels)
    for n in range(2):
        own = like(model, prefix, inputs[n], inputs[1 - n], processor, None)
        arrays |= {f"like-{n}.{name}": value for name, value in own.items()}
    save_file(contiguous(arrays), os.path.join(folder, "expected.safetensors"))
    return model


def main(out):
    pictures = [noise(3, 70, 50), noise(4, 97, 180)]
    folder = os.path.join(out, "owl-pictures")
    os.makedirs(folder, exist_ok=True)
    for name, picture in zip("ab", pictures):
        picture.save(os.path.join(folder, f"{name}.png"), optimize=True)
    export(out, "owlv2-tiny", "owlv2", 21, pictures, tower(16, 2, 2, 32), tower(24, 3, 2, 40, image_size=48, patch_size=8), 16)
    export(out, "owlvit-tiny", "owlvit", 22, pictures, tower(20, 2, 2, 32), tower(16, 2, 3, 32, image_size=40, patch_size=10), 20)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(sys.argv[1])
