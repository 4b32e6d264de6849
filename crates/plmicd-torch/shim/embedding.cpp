// Sums of word, position and type embeddings, whose gradients touch only the rows that were read.
#include "shim.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

// table.grad[ids[row]] += grad[row], but for `left_out`. Threads share the columns, so each row of the table is summed
// in the order of the rows, whatever their number.
void add_rows(const at::Tensor &table, const at::Tensor &ids, const at::Tensor &grad, int64_t left_out) {
  if (!table.requires_grad()) return;
  if (!table.grad().defined()) table.mutable_grad() = at::zeros_like(table);
  at::Tensor sums = table.grad();
  const int64_t rows = grad.size(0), columns = grad.size(1), stride = sums.stride(0);
  const int64_t *id = ids.const_data_ptr<int64_t>();
  const float *from = grad.const_data_ptr<float>();
  float *to = sums.mutable_data_ptr<float>();
  at::parallel_for(0, columns, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = 0; row < rows; ++row) {
      if (id[row] == left_out) continue;
      float *sum = to + id[row] * stride;
      const float *own = from + row * columns;
      for (int64_t j = begin; j < end; ++j) sum[j] += own[j];
    }
  });
}

struct Embedding : public torch::autograd::Function<Embedding> {
  static at::Tensor forward(torch::autograd::AutogradContext *context, const at::Tensor &words,
                            const at::Tensor &positions, const at::Tensor &types, const at::Tensor &ids,
                            const at::Tensor &places, int64_t word_pad, int64_t place_pad) {
    at::Tensor out = at::index_select(words, 0, ids);
    out.add_(at::index_select(positions, 0, places)).add_(types.select(0, 0));
    context->save_for_backward({ids, places});
    context->saved_data["tables"] = std::vector<at::Tensor>{words, positions, types};
    context->saved_data["pads"] = std::vector<int64_t>{word_pad, place_pad};
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto tables = context->saved_data["tables"].toTensorVector();
    const auto pads = context->saved_data["pads"].toIntVector();
    const at::Tensor grad = gradients[0].contiguous();
    add_rows(tables[0], saved[0], grad, pads[0]);
    add_rows(tables[1], saved[1], grad, pads[1]);
    if (!tables[2].requires_grad()) return torch::autograd::variable_list(7);
    if (!tables[2].grad().defined()) tables[2].mutable_grad() = at::zeros_like(tables[2]);
    tables[2].grad().select(0, 0).add_(grad.sum(0));
    return torch::autograd::variable_list(7);
  }
};

}  // namespace

extern "C" {

char *plmicd_embedding(tensor words, tensor positions, tensor types, tensor ids, tensor places,
                       int64_t word_pad, int64_t place_pad, tensor *out) {
  return guarded([&] {
    TORCH_CHECK(words->is_cpu() && words->scalar_type() == at::kFloat, "expected fp32 tables on the CPU");
    TORCH_CHECK(ids->scalar_type() == at::kLong && places->scalar_type() == at::kLong && ids->is_contiguous() &&
                    places->is_contiguous() && ids->numel() == places->numel(),
                "expected as many places as ids");
    *out = new at::Tensor(
        Embedding::apply(*words, *positions, *types, *ids, *places, word_pad, place_pad));
  });
}
}
