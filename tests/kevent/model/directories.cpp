// directories.cpp: directories of the model, the type INODE, and its names.
#include "tests/kevent/model/model.hpp"

#include <cstdlib>
#include <deque>
#include <set>
#include <tuple>

#include <sys/stat.h>

namespace kevent_model {
namespace {

constexpr std::uint32_t name_bits =
    KEVENT_INODE_CREATE | KEVENT_INODE_REMOVE | KEVENT_INODE_MOVED_FROM | KEVENT_INODE_MOVED_TO;
// Only ADD can request these.
constexpr std::uint32_t file_bits = KEVENT_INODE_MODIFIED | KEVENT_INODE_ATTRIBUTES;

/// A directory with two open descriptors, until it is removed.
struct directory {
    std::string path;
    std::array<kevring::fd, 2> numbers;
    std::map<std::string, bool> entries;  // true: a directory
    bool is_removed = false;
};

struct change {
    std::uint64_t order;  // of all changes
    std::uint32_t bits;
    std::uint64_t rename;  // 0: none
    std::string name;
};

/// The changes that the queue has certainly read from the kernel, and the cookies of renames.
struct confirmed_changes {
    std::uint64_t before = 0;
    std::map<std::uint64_t, std::uint32_t> cookies;
};

class watcher final : public registration_model {
public:
    watcher(model_run& run, const ukevent& request, std::shared_ptr<directory> watched,
            confirmed_changes& so_far)
        : registration_model(run, request),
          watched(std::move(watched)),
          files_(request.event & file_bits),
          confirmed_changes_(so_far) {}

    void happened(const change& observed) {
        if (broken_by_ != 0 || has_fired() || (observed.bits & request.event) == 0) return;
        unreported_.push_back(observed);
        if ((request.event & KEVENT_INODE_NAMES) != 0) names_.push_back(observed);
        event = expected::must;
    }
    void origin_removed() {
        if (broken_by_ != 0 || has_fired()) return;
        break_by(-ENOENT);
    }

    // Which of the unreported changes fired a one-shot depends on the time at which the queue read
    // them. So MODIFY does not change whether a registration is a one-shot.
    void choose(ukevent& to) override {
        const bool all_confirmed =
            unreported_.empty() || unreported_.back().order < confirmed_changes_.before;
        if (!all_confirmed) {
            to.req_flags &= ~std::uint32_t{KEVENT_REQ_ONESHOT};
            to.req_flags |= request.req_flags & KEVENT_REQ_ONESHOT;
        }
        if ((to.req_flags & KEVENT_REQ_ONESHOT) != 0) to.event &= ~(file_bits & ~files_);
    }

    void modified(const ukevent&) override {
        if (has_fired()) return;
        if ((request.event & file_bits & ~files_) != 0) {
            break_by(-EINVAL);
        } else if (watched->is_removed) {
            break_by(-ENOENT);
        } else {
            dead = false;
            broken_by_ = 0;
            list();
        }
    }

    void check_record(const ukevent& got) override {
        KEVRING_MODEL_CHECK(run_, event != expected::none);
        if ((got.ret_flags & KEVENT_RET_BROKEN) != 0) {
            // A one-shot that has fired, and whose directory was removed then, may be modified
            // before the queue reads the removal.
            const bool may_be_late = has(KEVENT_REQ_ONESHOT) && watched->is_removed;
            const int wanted = broken_by_ == 0 && may_be_late ? -ENOENT : broken_by_;
            KEVRING_MODEL_CHECK(run_, wanted != 0);
            KEVRING_MODEL_CHECK(run_, error_of(got) == wanted && got.ret_data[0] == 0);
            return;
        }
        KEVRING_MODEL_CHECK(run_, !dead && got.ret_data[1] == 0);
        // The bits are those of consecutive changes: the first unreported one, which is one of the
        // first `slack_`, and those that the queue has read since.
        std::size_t fewest = unreported_.size() + 1;
        std::size_t most = 0;
        for (std::size_t first = 0; first <= slack_; ++first) {
            std::uint32_t bits = 0;
            for (std::size_t end = first; end <= unreported_.size(); ++end) {
                if (end > first) bits |= unreported_[end - 1].bits & all_asked_;
                if (bits != got.ret_data[0] || (end == first && !may_be_empty())) continue;
                fewest = std::min(fewest, end);
                most = std::max(most, end);
            }
        }
        if (!KEVRING_MODEL_CHECK(run_, fewest <= unreported_.size())) return;
        if (fewest > 0)
            confirmed_changes_.before =
                std::max(confirmed_changes_.before, unreported_[fewest - 1].order + 1);
        unreported_.erase(unreported_.begin(),
                          unreported_.begin() + static_cast<std::ptrdiff_t>(fewest));
        slack_ = most - fewest;
    }

    void delivered(const ukevent& got) override {
        listed = false;
        if ((got.ret_flags & KEVENT_RET_BROKEN) != 0) {
            dead = true;
            event = expected::none;
            return;
        }
        event = unreported_.size() > slack_ || broken_by_ != 0 ? expected::must
                : !unreported_.empty()                         ? expected::may
                                                               : expected::none;
    }

    void nothing_left() override {
        registration_model::nothing_left();
        if (broken_by_ != 0) return;  // that event reported nothing else
        unreported_.clear();
        slack_ = 0;
    }

    void take_names(unsigned max_count) {
        std::vector<kevent_change> got(max_count);
        const int count =
            kevent_inode_changes(run_.tested_queue->number(), request.id, max_count, got.data());
        run_.log("names of ", name_of(request), ": ", count, " of ", names_.size());
        std::size_t fewest = 0;
        while (fewest < names_.size() && fewest < max_count &&
               names_[fewest].order < confirmed_changes_.before)
            ++fewest;
        if (count == -EINVAL) {
            KEVRING_MODEL_CHECK(run_, (request.event & KEVENT_INODE_NAMES) == 0 && fewest == 0);
            return;
        }
        if ((request.event & KEVENT_INODE_NAMES) == 0) KEVRING_MODEL_CHECK(run_, count > 0);
        const std::size_t most = std::min<std::size_t>(max_count, names_.size());
        if (!KEVRING_MODEL_CHECK(
                run_, count >= static_cast<int>(fewest) && count <= static_cast<int>(most)))
            return;
        for (int i = 0; i < count; ++i) {
            const kevent_change& one = got[static_cast<std::size_t>(i)];
            const change& wanted = names_.front();
            KEVRING_MODEL_CHECK(run_, one.event == wanted.bits);
            KEVRING_MODEL_CHECK(run_, one.name == wanted.name);
            KEVRING_MODEL_CHECK(run_, (one.cookie != 0) == (wanted.rename != 0));
            if (wanted.rename != 0)
                KEVRING_MODEL_CHECK(
                    run_, confirmed_changes_.cookies.try_emplace(wanted.rename, one.cookie)
                                  .first->second == one.cookie);
            names_.pop_front();
        }
    }

    const std::shared_ptr<directory> watched;

private:
    // The flag of names is no bit of an event.
    static constexpr std::uint32_t all_asked_ = name_bits | file_bits;

    bool may_be_empty() const { return listed || slack_ != 0 || event == expected::may; }
    void break_by(int error_number) {
        broken_by_ = error_number;
        event = expected::must;
    }

    const std::uint32_t files_;
    confirmed_changes& confirmed_changes_;
    int broken_by_ = 0;  // the error of the next event, or of the last one
    std::size_t slack_ = 0;
    std::deque<change> unreported_;  // for the next event
    std::deque<change> names_;       // for kevent_inode_changes()
};

class directories final : public origin_model {
public:
    explicit directories(model_run& run) : origin_model(run) {
        if (::mkdtemp(base_.data()) == nullptr) std::abort();
        for (auto& each : all_) each = make();
    }
    ~directories() override {
        for (auto& each : all_) remove_entries(*each);
        for (const std::string& each : made_) ::rmdir(each.c_str());
        ::rmdir(base_.c_str());
    }

    bool has_type(std::uint32_t type) const override { return type == KEVENT_INODE; }
    std::optional<ukevent> random_request() override {
        const directory& chosen = *all_[run_.below(all_.size())];
        ukevent made = record(KEVENT_INODE, chosen.numbers[run_.below(2)].number(), 0);
        made.id.raw[1] = static_cast<std::uint32_t>(run_.below(2));
        return made;
    }
    std::uint32_t random_event(std::uint32_t) override {
        std::uint32_t event = KEVENT_INODE_CREATE;
        for (const std::uint32_t bit :
             {KEVENT_INODE_CREATE, KEVENT_INODE_REMOVE, KEVENT_INODE_MODIFIED,
              KEVENT_INODE_ATTRIBUTES, KEVENT_INODE_MOVED_FROM, KEVENT_INODE_MOVED_TO,
              KEVENT_INODE_NAMES})
            if (run_.below(2) == 0) event ^= bit;
        return event;
    }
    std::optional<ukevent> add(const ukevent& request) override {
        const auto watched = *std::find_if(all_.begin(), all_.end(), [&](const auto& each) {
            return std::any_of(each->numbers.begin(), each->numbers.end(), [&](auto& number) {
                return number.number() == static_cast<int>(request.id.raw[0]);
            });
        });
        watcher& kept = keep(std::make_unique<watcher>(run_, request, watched, confirmed_changes_));
        if (kept.has(KEVENT_REQ_READY)) kept.list();
        return std::nullopt;
    }

    void act() override {
        if (run_.below(4) == 0) return take_names();
        auto& parent = all_[run_.below(all_.size())];
        const std::string name(1, static_cast<char>('a' + run_.below(4)));
        const auto found = parent->entries.find(name);
        const bool is_there = found != parent->entries.end();
        switch (run_.below(is_there ? 8 : 4)) {
            case 0:
            case 1:
            case 2:
                if (!is_there) make_name(*parent, name, run_.below(3) == 0);
                break;
            case 3:
                if (run_.below(6) == 0) remove_directory(parent);
                break;
            case 4: remove_name(*parent, name); break;
            case 5: rename(*parent, name); break;
            case 6:
                if (found->second) break;
                if (!once(*parent, name, KEVENT_INODE_MODIFIED)) break;
                write(*parent, name);
                report_change(*parent, KEVENT_INODE_MODIFIED, name, false);
                break;
            default:
                if (!once(*parent, name, KEVENT_INODE_ATTRIBUTES)) break;
                require(::chmod(path(*parent, name).c_str(), run_.below(2) == 0 ? 0700 : 0755) ==
                        0);
                report_change(*parent, KEVENT_INODE_ATTRIBUTES, name, found->second);
                break;
        }
    }
    void all_changes_taken() override {
        confirmed_changes_.before = last_order_;
        files_changed_.clear();
    }
    bool finish() override {
        take_names();
        return false;
    }

private:
    void require(bool holds) { KEVRING_MODEL_CHECK(run_, holds); }
    std::string path(const directory& parent, const std::string& name) const {
        return parent.path + '/' + name;
    }

    std::shared_ptr<directory> make() {
        auto made = std::make_shared<directory>();
        made->path = base_ + '/' + std::to_string(made_.size());
        made_.push_back(made->path);
        require(::mkdir(made->path.c_str(), 0700) == 0);
        for (auto& each : made->numbers)
            each.reset(::open(made->path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        return made;
    }

    void report_change(directory& parent, std::uint32_t bit, const std::string& name,
                       bool is_directory, std::uint64_t rename = 0) {
        run_.log("in ", parent.path, ' ', name, ": ", bit);
        // Linux merges equal changes only if no other change is between them.
        if ((bit & name_bits) != 0)
            std::erase_if(files_changed_,
                          [&](const auto& each) { return std::get<0>(each) == &parent; });
        change made{last_order_++, bit, rename, name};
        if (is_directory) made.bits |= KEVENT_INODE_DIRECTORY;
        run_.each<watcher>([&](watcher& one) {
            if (one.watched.get() == &parent) one.happened(made);
        });
    }
    // Linux merges two equal changes until the first is read.
    bool once(const directory& parent, const std::string& name, std::uint32_t bit) {
        return files_changed_.insert({&parent, name, bit}).second;
    }

    void make_name(directory& parent, const std::string& name, bool is_directory) {
        if (is_directory) {
            require(::mkdir(path(parent, name).c_str(), 0700) == 0);
        } else {
            const kevring::fd made(
                ::open(path(parent, name).c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
            require(static_cast<bool>(made));
        }
        parent.entries[name] = is_directory;
        report_change(parent, KEVENT_INODE_CREATE, name, is_directory);
    }
    void remove_name(directory& parent, const std::string& name) {
        const bool is_directory = parent.entries.at(name);
        const std::string entry_path = path(parent, name);
        require((is_directory ? ::rmdir(entry_path.c_str()) : ::unlink(entry_path.c_str())) == 0);
        parent.entries.erase(name);
        report_change(parent, KEVENT_INODE_REMOVE, name, is_directory);
    }
    void rename(directory& from, const std::string& name) {
        const bool is_directory = from.entries.at(name);
        directory& to = *all_[run_.below(all_.size())];
        const std::string new_name(1, static_cast<char>('a' + run_.below(4)));
        if (&to == &from && new_name == name) return;
        const auto there = to.entries.find(new_name);
        if (there != to.entries.end() && there->second != is_directory) return;
        require(::rename(path(from, name).c_str(), path(to, new_name).c_str()) == 0);
        from.entries.erase(name);
        to.entries[new_name] = is_directory;
        const std::uint64_t number = ++last_rename_;
        report_change(from, KEVENT_INODE_MOVED_FROM, name, is_directory, number);
        report_change(to, KEVENT_INODE_MOVED_TO, new_name, is_directory, number);
    }
    void write(directory& parent, const std::string& name) {
        const kevring::fd file(::open(path(parent, name).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
        require(::write(file.number(), "x", 1) == 1);
    }
    void remove_entries(directory& parent) {
        while (!parent.entries.empty())
            remove_name(parent, std::string(parent.entries.begin()->first));
    }
    // The kernel frees it after its last close. A new directory replaces it here.
    void remove_directory(std::shared_ptr<directory>& removed) {
        remove_entries(*removed);
        for (auto& each : removed->numbers) each.reset();
        require(::rmdir(removed->path.c_str()) == 0);
        run_.log("removed: ", removed->path);
        removed->is_removed = true;
        run_.each<watcher>([&](watcher& one) {
            if (one.watched == removed) one.origin_removed();
        });
        removed = make();
    }
    void take_names() {
        run_.each<watcher>([&](watcher& one) {
            if (run_.below(2) == 0) one.take_names(static_cast<unsigned>(1 + run_.below(6)));
        });
    }

    std::string base_ = "/tmp/kevring-model-XXXXXX";
    std::vector<std::string> made_;
    std::array<std::shared_ptr<directory>, 3> all_;
    confirmed_changes confirmed_changes_;
    std::set<std::tuple<const directory*, std::string, std::uint32_t>> files_changed_;
    std::uint64_t last_order_ = 0;
    std::uint64_t last_rename_ = 0;
};

}  // namespace

std::unique_ptr<origin_model> make_directories(model_run& run) {
    return std::make_unique<directories>(run);
}

}  // namespace kevent_model
