// directories.cpp: directories of the model, the type INODE, and the names that it keeps.
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
// Which ADD has to ask for.
constexpr std::uint32_t file_bits = KEVENT_INODE_MODIFIED | KEVENT_INODE_ATTRIBUTES;

/// A directory that the program has two numbers of, as long as it is there.
struct directory {
    std::string path;
    std::array<kevring::fd, 2> numbers;
    std::map<std::string, bool> entries;  // true: a directory
    bool gone = false;
};

struct change {
    std::uint64_t order;  // of all changes
    std::uint32_t bits;
    std::uint64_t rename;  // 0: none
    std::string name;
};

/// Which changes the queue has surely taken from the kernel, and how renames are named there.
struct confirmed_changes {
    std::uint64_t before = 0;
    std::map<std::uint64_t, std::uint32_t> cookies;
};

class watcher final : public registration_model {
public:
    watcher(run& in, const ukevent& request, std::shared_ptr<directory> of,
            confirmed_changes& so_far)
        : registration_model(in, request),
          of(std::move(of)),
          files_(request.event & file_bits),
          confirmed_changes_(so_far) {}

    void happened(const change& what) {
        if (broken_by_ != 0 || has_fired() || (what.bits & request.event) == 0) return;
        told_.push_back(what);
        if ((request.event & KEVENT_INODE_NAMES) != 0) names_.push_back(what);
        event = expected::must;
    }
    void origin_goes() {
        if (broken_by_ != 0 || has_fired()) return;
        break_by(-ENOENT);
    }

    // Which of the changes that nobody has heard of made a one-shot fire depends on when the queue
    // looked: so a one-shot stays one, and others do not become one.
    void choose(ukevent& to) override {
        const bool all_heard = told_.empty() || told_.back().order < confirmed_changes_.before;
        if (!all_heard) {
            to.req_flags &= ~std::uint32_t{KEVENT_REQ_ONESHOT};
            to.req_flags |= request.req_flags & KEVENT_REQ_ONESHOT;
        }
        if ((to.req_flags & KEVENT_REQ_ONESHOT) != 0) to.event &= ~(file_bits & ~files_);
    }

    void modified(const ukevent&) override {
        if (has_fired()) return;
        if ((request.event & file_bits & ~files_) != 0) {
            break_by(-EINVAL);
        } else if (of->gone) {
            break_by(-ENOENT);
        } else {
            dead = false;
            broken_by_ = 0;
            list();
        }
    }

    void check_record(const ukevent& got) override {
        KEVRING_MODEL_CHECK(in_, event != expected::none);
        if ((got.ret_flags & KEVENT_RET_BROKEN) != 0) {
            // A one-shot that has fired, and whose directory went then, may be modified before the
            // queue has looked.
            const bool may_be_late = has(KEVENT_REQ_ONESHOT) && of->gone;
            const int wanted = broken_by_ == 0 && may_be_late ? -ENOENT : broken_by_;
            KEVRING_MODEL_CHECK(in_, wanted != 0);
            KEVRING_MODEL_CHECK(in_, error_of(got) == wanted && got.ret_data[0] == 0);
            return;
        }
        KEVRING_MODEL_CHECK(in_, !dead && got.ret_data[1] == 0);
        // The bits are those of some changes in a row: the first that no event has told of, which
        // is one of the first `slack_`, and those that the queue has heard of since.
        std::size_t fewest = told_.size() + 1;
        std::size_t most = 0;
        for (std::size_t first = 0; first <= slack_; ++first) {
            std::uint32_t bits = 0;
            for (std::size_t end = first; end <= told_.size(); ++end) {
                if (end > first) bits |= told_[end - 1].bits & all_asked_;
                if (bits != got.ret_data[0] || (end == first && !may_be_empty())) continue;
                fewest = std::min(fewest, end);
                most = std::max(most, end);
            }
        }
        if (!KEVRING_MODEL_CHECK(in_, fewest <= told_.size())) return;
        if (fewest > 0)
            confirmed_changes_.before =
                std::max(confirmed_changes_.before, told_[fewest - 1].order + 1);
        told_.erase(told_.begin(), told_.begin() + static_cast<std::ptrdiff_t>(fewest));
        slack_ = most - fewest;
    }

    void delivered(const ukevent& got) override {
        listed = false;
        if ((got.ret_flags & KEVENT_RET_BROKEN) != 0) {
            dead = true;
            event = expected::none;
            return;
        }
        event = told_.size() > slack_ || broken_by_ != 0 ? expected::must
                : !told_.empty()                         ? expected::may
                                                         : expected::none;
    }

    void nothing_left() override {
        registration_model::nothing_left();
        if (broken_by_ != 0) return;  // which told of nothing else
        told_.clear();
        slack_ = 0;
    }

    void take_names(unsigned max_count) {
        std::vector<kevent_change> got(max_count);
        const int count =
            kevent_inode_changes(in_.door->number(), request.id, max_count, got.data());
        in_.log("names of ", name_of(request), ": ", count, " of ", names_.size());
        std::size_t fewest = 0;
        while (fewest < names_.size() && fewest < max_count &&
               names_[fewest].order < confirmed_changes_.before)
            ++fewest;
        if (count == -EINVAL) {
            KEVRING_MODEL_CHECK(in_, (request.event & KEVENT_INODE_NAMES) == 0 && fewest == 0);
            return;
        }
        if ((request.event & KEVENT_INODE_NAMES) == 0) KEVRING_MODEL_CHECK(in_, count > 0);
        const std::size_t most = std::min<std::size_t>(max_count, names_.size());
        if (!KEVRING_MODEL_CHECK(
                in_, count >= static_cast<int>(fewest) && count <= static_cast<int>(most)))
            return;
        for (int i = 0; i < count; ++i) {
            const kevent_change& one = got[static_cast<std::size_t>(i)];
            const change& wanted = names_.front();
            KEVRING_MODEL_CHECK(in_, one.event == wanted.bits);
            KEVRING_MODEL_CHECK(in_, one.name == wanted.name);
            KEVRING_MODEL_CHECK(in_, (one.cookie != 0) == (wanted.rename != 0));
            if (wanted.rename != 0)
                KEVRING_MODEL_CHECK(
                    in_, confirmed_changes_.cookies.try_emplace(wanted.rename, one.cookie)
                                 .first->second == one.cookie);
            names_.pop_front();
        }
    }

    const std::shared_ptr<directory> of;

private:
    // A flag that names carry is no bit of an event.
    static constexpr std::uint32_t all_asked_ = name_bits | file_bits;

    bool may_be_empty() const { return listed || slack_ != 0 || event == expected::may; }
    void break_by(int error_number) {
        broken_by_ = error_number;
        event = expected::must;
    }

    const std::uint32_t files_;
    confirmed_changes& confirmed_changes_;
    int broken_by_ = 0;  // the error of an event that is to come, or that has said it last
    std::size_t slack_ = 0;
    std::deque<change> told_;   // what an event has to tell of
    std::deque<change> names_;  // what kevent_inode_changes() has to give
};

class directories final : public origins {
public:
    explicit directories(run& in) : origins(in) {
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
        const directory& of = *all_[in_.below(all_.size())];
        ukevent made = record(KEVENT_INODE, of.numbers[in_.below(2)].number(), 0);
        made.id.raw[1] = static_cast<std::uint32_t>(in_.below(2));
        return made;
    }
    std::uint32_t random_event(std::uint32_t) override {
        std::uint32_t event = KEVENT_INODE_CREATE;
        for (const std::uint32_t bit :
             {KEVENT_INODE_CREATE, KEVENT_INODE_REMOVE, KEVENT_INODE_MODIFIED,
              KEVENT_INODE_ATTRIBUTES, KEVENT_INODE_MOVED_FROM, KEVENT_INODE_MOVED_TO,
              KEVENT_INODE_NAMES})
            if (in_.below(2) == 0) event ^= bit;
        return event;
    }
    std::optional<ukevent> add(const ukevent& request) override {
        const auto of = *std::find_if(all_.begin(), all_.end(), [&](const auto& each) {
            return std::any_of(each->numbers.begin(), each->numbers.end(), [&](auto& number) {
                return number.number() == static_cast<int>(request.id.raw[0]);
            });
        });
        watcher& kept = keep(std::make_unique<watcher>(in_, request, of, confirmed_changes_));
        if (kept.has(KEVENT_REQ_READY)) kept.list();
        return std::nullopt;
    }

    void act() override {
        if (in_.below(4) == 0) return take_names();
        auto& of = all_[in_.below(all_.size())];
        const std::string name(1, static_cast<char>('a' + in_.below(4)));
        const auto at = of->entries.find(name);
        const bool is_there = at != of->entries.end();
        switch (in_.below(is_there ? 8 : 4)) {
            case 0:
            case 1:
            case 2:
                if (!is_there) make_name(*of, name, in_.below(3) == 0);
                break;
            case 3:
                if (in_.below(6) == 0) remove_directory(of);
                break;
            case 4: remove_name(*of, name); break;
            case 5: rename(*of, name); break;
            case 6:
                if (at->second) break;
                if (!once(*of, name, KEVENT_INODE_MODIFIED)) break;
                write(*of, name);
                tell_of(*of, KEVENT_INODE_MODIFIED, name, false);
                break;
            default:
                if (!once(*of, name, KEVENT_INODE_ATTRIBUTES)) break;
                require(::chmod(path(*of, name).c_str(), in_.below(2) == 0 ? 0700 : 0755) == 0);
                tell_of(*of, KEVENT_INODE_ATTRIBUTES, name, at->second);
                break;
        }
    }
    void all_was_heard() override {
        confirmed_changes_.before = last_order_;
        files_changed_.clear();
    }
    bool finish() override {
        take_names();
        return false;
    }

private:
    void require(bool holds) { KEVRING_MODEL_CHECK(in_, holds); }
    std::string path(const directory& of, const std::string& name) const {
        return of.path + '/' + name;
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

    void tell_of(directory& of, std::uint32_t bit, const std::string& name, bool is_directory,
                 std::uint64_t rename = 0) {
        in_.log("in ", of.path, ' ', name, ": ", bit);
        // In between, Linux does not make one of two that are alike.
        if ((bit & name_bits) != 0)
            std::erase_if(files_changed_,
                          [&](const auto& each) { return std::get<0>(each) == &of; });
        change what{last_order_++, bit, rename, name};
        if (is_directory) what.bits |= KEVENT_INODE_DIRECTORY;
        in_.each<watcher>([&](watcher& one) {
            if (one.of.get() == &of) one.happened(what);
        });
    }
    // Linux makes one of two changes that are alike, until the first is taken.
    bool once(const directory& of, const std::string& name, std::uint32_t bit) {
        return files_changed_.insert({&of, name, bit}).second;
    }

    void make_name(directory& of, const std::string& name, bool is_directory) {
        if (is_directory) {
            require(::mkdir(path(of, name).c_str(), 0700) == 0);
        } else {
            const kevring::fd made(
                ::open(path(of, name).c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
            require(static_cast<bool>(made));
        }
        of.entries[name] = is_directory;
        tell_of(of, KEVENT_INODE_CREATE, name, is_directory);
    }
    void remove_name(directory& of, const std::string& name) {
        const bool is_directory = of.entries.at(name);
        const std::string at = path(of, name);
        require((is_directory ? ::rmdir(at.c_str()) : ::unlink(at.c_str())) == 0);
        of.entries.erase(name);
        tell_of(of, KEVENT_INODE_REMOVE, name, is_directory);
    }
    void rename(directory& from, const std::string& name) {
        const bool is_directory = from.entries.at(name);
        directory& to = *all_[in_.below(all_.size())];
        const std::string new_name(1, static_cast<char>('a' + in_.below(4)));
        if (&to == &from && new_name == name) return;
        const auto there = to.entries.find(new_name);
        if (there != to.entries.end() && there->second != is_directory) return;
        require(::rename(path(from, name).c_str(), path(to, new_name).c_str()) == 0);
        from.entries.erase(name);
        to.entries[new_name] = is_directory;
        const std::uint64_t number = ++last_rename_;
        tell_of(from, KEVENT_INODE_MOVED_FROM, name, is_directory, number);
        tell_of(to, KEVENT_INODE_MOVED_TO, new_name, is_directory, number);
    }
    void write(directory& of, const std::string& name) {
        const kevring::fd file(::open(path(of, name).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
        require(::write(file.number(), "x", 1) == 1);
    }
    void remove_entries(directory& of) {
        while (!of.entries.empty()) remove_name(of, std::string(of.entries.begin()->first));
    }
    // It is gone once nobody has it open. Another takes its place where none is watched.
    void remove_directory(std::shared_ptr<directory>& of) {
        remove_entries(*of);
        for (auto& each : of->numbers) each.reset();
        require(::rmdir(of->path.c_str()) == 0);
        in_.log("gone: ", of->path);
        of->gone = true;
        in_.each<watcher>([&](watcher& one) {
            if (one.of == of) one.origin_goes();
        });
        of = make();
    }
    void take_names() {
        in_.each<watcher>([&](watcher& one) {
            if (in_.below(2) == 0) one.take_names(static_cast<unsigned>(1 + in_.below(6)));
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

std::unique_ptr<origins> make_directories(run& in) { return std::make_unique<directories>(in); }

}  // namespace kevent_model
