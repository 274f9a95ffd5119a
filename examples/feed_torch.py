"""A PyTorch `IterableDataset` over a calostream pipeline, and a few steps of training with it.

    python examples/feed_torch.py pipelines/feed-lcd.yaml --epochs 2 --set data=data/lcd/files

Each worker of the DataLoader (of each process, where there are several) is one consumer: together they see every event once an
epoch. Batches come whole, so the loader is told not to make any: `batch_size=None`.
"""

import sys
import warnings

import torch
from feed_pyarrow import Feed

# What numpy looks into belongs to nobody else: that it can't be written to is no danger here.
warnings.filterwarnings("ignore", "The given NumPy array is not writable")


class FeedDataset(torch.utils.data.IterableDataset):
    """Batches as dictionaries of tensors; `label` is the number of the class."""

    def __init__(self, pipeline, *arguments):
        self.pipeline, self.arguments = pipeline, arguments

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        inner, of_inner = (worker.id, worker.num_workers) if worker else (0, 1)
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        outer, of_outer = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
        ranks = ["--rank", outer * of_inner + inner, "--of", of_outer * of_inner]
        for batch in Feed(self.pipeline, *ranks, *self.arguments):
            batch["label"] = batch["label"].astype("i8")
            yield {name: torch.from_numpy(array) for name, array in batch.items() if array.dtype.kind in "fiu"}


if __name__ == "__main__":
    torch.manual_seed(1)
    loader = torch.utils.data.DataLoader(FeedDataset(*sys.argv[1:], "--quiet"), batch_size=None, num_workers=2)
    model = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 25)), torch.nn.Conv3d(1, 4, 5, stride=3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(4)
    )
    losses, rows = [], 0
    for batch in loader:
        images = torch.log1p(1000 * batch["ecal"].clamp(min=0))  # Cells hold some MeV.
        if not losses:
            model(images)  # The lazy layer sees its width.
            optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        loss = torch.nn.functional.cross_entropy(model(images), batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        rows += len(batch["label"])
    tenth = max(1, len(losses) // 10)
    print(f"{rows} events in {len(losses)} batches; loss {sum(losses[:tenth]) / tenth:.3f} at first, {sum(losses[-tenth:]) / tenth:.3f} in the end")
