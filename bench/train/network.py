# The twin of network.lua, as one writes it in PyTorch.
import sys
import torch
from torch import nn
from torch.nn import functional as F
import formula
from twin import serve

name, batch = sys.argv[2], int(sys.argv[3])


class Block(nn.Module):  # of a ResNet
    def __init__(self, into, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = None
        if into != out:
            self.downsample = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet8(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16, 1))
        self.layer2 = nn.Sequential(Block(16, 32, 2))
        self.layer3 = nn.Sequential(Block(32, 64, 2))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        y = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(y.mean((2, 3)))


class Conv1D(nn.Module):  # a linear map whose weight is [in, out]
    def __init__(self, a, b):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(a, b))
        self.bias = nn.Parameter(torch.empty(b))

    def forward(self, x):
        return torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight).reshape(*x.shape[:-1], -1)


class Layer(nn.Module):  # of a GPT
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attn = nn.ModuleDict({"c_attn": Conv1D(d, 3 * d), "c_proj": Conv1D(d, d)})
        self.mlp = nn.ModuleDict({"c_fc": Conv1D(d, 4 * d), "c_proj": Conv1D(4 * d, d)})

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = (z.reshape(n, t, self.heads, -1).transpose(1, 2)
                   for z in self.attn["c_attn"](self.ln_1(x)).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn["c_proj"](y.transpose(1, 2).reshape(n, t, d))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, vocab, context, d, layers, heads):
        super().__init__()
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(vocab, d), "wpe": nn.Embedding(context, d),
            "h": nn.ModuleList(Layer(d, heads) for _ in range(layers)), "ln_f": nn.LayerNorm(d)})

    def forward(self, x):
        m = self.transformer
        y = m["wte"](x) + m["wpe"](torch.arange(x.shape[1]))
        for layer in m["h"]:
            y = layer(y)
        return m["ln_f"](y) @ m["wte"].weight.T


if name == "resnet":
    net = formula.fill(ResNet8())
    x = formula.tensor([batch, 1, 28, 28], 1, 0.5)
    y = torch.arange(batch) % 10
else:
    net = formula.fill(GPT(256, 128, 128, 4, 4))
    x = (torch.arange(batch * 128) * 7 % 251).reshape(batch, 128)
    y = x[:, 1:]
optimiser = torch.optim.SGD(net.parameters(), lr=0.00002, momentum=0.9)


def step():
    optimiser.zero_grad(set_to_none=True)
    z = net(x)
    if name != "resnet":
        z = z[:, :-1].transpose(1, 2)
    loss = F.cross_entropy(z, y)
    loss.backward()
    optimiser.step()
    return loss


serve(step)
