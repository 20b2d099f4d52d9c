# One network of bench_test.go in PyTorch: least time of a training step.
# usage: pytorch_nets.py NAME contiguous|channels_last; TORCH_THREADS, TORCH_STEPS
import json, os, resource, sys, time
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(int(os.environ.get("TORCH_THREADS", os.cpu_count())))


class Block(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o)
        self.c2, self.b2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.short = nn.Identity()
        if s != 1 or i != o:
            self.short = nn.Sequential(nn.Conv2d(i, o, 1, s, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        return F.relu(self.b2(self.c2(F.relu(self.b1(self.c1(x))))) + self.short(x))


def resnet44():
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    c = 16
    for o, s in [(16, 1), (32, 2), (64, 2)]:
        for k in range(7):
            layers.append(Block(c, o, s if k == 0 else 1))
            c = o
    return nn.Sequential(*layers, nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10))


def f1():
    layers, d = [nn.Flatten()], 784
    for _ in range(5):
        layers += [nn.Linear(d, 512), nn.BatchNorm1d(512), nn.ReLU()]
        d = 512
    return nn.Sequential(*layers, nn.Linear(512, 10))


def c1():
    return nn.Sequential(
        nn.Conv2d(3, 64, 5, 1, 2, bias=False), nn.MaxPool2d(3, 2), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Conv2d(64, 64, 5, 1, 2, bias=False), nn.MaxPool2d(3, 2), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 384, bias=False), nn.BatchNorm1d(384), nn.ReLU(),
        nn.Linear(384, 192, bias=False), nn.BatchNorm1d(192), nn.ReLU(), nn.Linear(192, 10))


name, layout = sys.argv[1:]
make, shape = {
    "F1-256": (f1, (256, 1, 28, 28)),
    "C1-128": (c1, (128, 3, 32, 32)),
    "ResNet44-128": (resnet44, (128, 3, 32, 32)),
}[name]
torch.manual_seed(0)
net, x, y = make(), torch.randn(*shape), torch.randint(0, 10, (shape[0],))
if layout == "channels_last":
    net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(net.parameters(), 0.1)


def step():
    optimizer.zero_grad()
    F.cross_entropy(net(x), y).backward()
    optimizer.step()


step()
step()
least, used = 1e9, time.process_time()
steps = int(os.environ.get("TORCH_STEPS", 8))
for _ in range(steps):
    start = time.perf_counter()
    step()
    least = min(least, time.perf_counter() - start)
print(json.dumps({
    "Milliseconds": least * 1e3,
    "CPUMilliseconds": (time.process_time() - used) * 1e3 / steps,
    "PeakMB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
